"The frame of a plot is found where matplotlib put it, whatever the plot's size, resolution, style and furniture."
import functools, io, warnings
import matplotlib; matplotlib.use('Agg')
import matplotlib.pyplot as plt, numpy as np, pytest
from PIL import Image
from cae.images import Images, find_frame, infer_reading, mnist

def draw(size=(6.4, 4.8), dpi=100, style='default', more=lambda fig, ax: None, lw=None, format='png', curves=True, **save):
    "A plot as a Pillow image, and where in it the axes are: left, top, right, bottom."
    with plt.style.context(style), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        fig, ax = plt.subplots(figsize=size, dpi=dpi)
        x = np.linspace(0, 10, 60)
        if curves: ax.plot(x, np.sin(x), x, np.cos(x), 'k', x, np.sin(x/2), label='a curve')
        ax.set(title='A title', xlabel='time (s)', ylabel='height (m)')
        more(fig, ax)
        if lw:
            for s in ax.spines.values(): s.set_linewidth(lw)
        buf = io.BytesIO()
        fig.savefig(buf, format=format, **save)
        plt.close(fig)
    im = Image.open(buf)
    im.load()
    box = ax.get_window_extent()
    return im, (box.x0, im.height - box.y1, box.x1, im.height - box.y0)

def check(lw=.8, dpi=100, **kwargs):
    "The frame found is the inside of the one drawn: within 2 pixels of the middle of its line and half its thickness."
    im, place = draw(lw=lw, dpi=dpi, **kwargs)
    assert np.abs(np.subtract(find_frame(im), place)).max() <= 2 + lw*dpi/72/2

def hide(*which): return lambda fig, ax: [ax.spines[s].set_visible(False) for s in which]
def heatmap(fig, ax, cmap='viridis', zero=False):
    y, x = np.mgrid[-3:3:80j, -3:3:100j]
    z = np.exp(-x*x - y*y)*(2 + np.sin(5*x)) if zero else np.sin(2*x) + np.cos(3*y)
    fig.colorbar(ax.imshow(z, cmap=cmap, aspect='auto'), ax=ax)
def symmetry_lines(fig, ax):
    ax.set(xlim=(0, 10), ylim=(-1, 1))
    for x in (0, 2.5, 6, 10): ax.axvline(x, color='k', lw=.8)
    ax.axhline(0, color='k', lw=.8, ls='--')
def inset(fig, ax): ax.inset_axes([.55, .55, .4, .4]).plot([1, 2, 4])
def log(fig, ax): ax.set(xscale='log', yscale='log'); ax.loglog([1, 1e3], [1e-4, 1e4]); ax.grid(which='both')
def twin(fig, ax): ax.twinx().plot([0, 10], [100, 3], 'C3')
def secondary(fig, ax): ax.tick_params(which='both', top=True, right=True, direction='in'); ax.minorticks_on()
def ticks_at_corners(fig, ax): ax.set(xlim=(0, 10), ylim=(-1, 1)); ax.grid()
def bars(fig, ax): ax.bar(range(10), np.arange(10)**.5, color='k')
def filled(fig, ax): ax.fill_between([0, 10], -2, 1); ax.set(xlim=(0, 10), ylim=(-2, 2))
def coloured(fig, ax): [s.set_color('tab:blue') for s in ax.spines.values()]
def face(fig, ax): fig.set_facecolor('#dde'); ax.set_facecolor('w')
def suptitle(fig, ax): fig.suptitle('A longer title of the whole figure, underlined in spirit'); fig.subplots_adjust(top=.8)

FURNITURE = {'grid': lambda f, a: a.grid(), 'minor grid': log, 'legend': lambda f, a: a.legend(frameon=True, edgecolor='k'),
             'big legend': lambda f, a: a.legend(fontsize=28, edgecolor='k', fancybox=False, loc='center'),
             'legend beside': lambda f, a: (f.subplots_adjust(right=.7), a.legend(bbox_to_anchor=(1.02, 1), loc='upper left')),
             'colour bar': heatmap, 'map with black': lambda f, a: heatmap(f, a, 'magma'), 
             'grey map': lambda f, a: heatmap(f, a, 'gray_r', True), 'twin axes': twin, 'inset': inset, 'symmetry lines': symmetry_lines,
             'ticks inside, all round': secondary,
             'ticks at the corners': ticks_at_corners, 'bars': bars, 'filled': filled, 'blue frame': coloured, 'grey page': face,
             'long title': suptitle, 'left and bottom': hide('top', 'right'), 'no top': hide('top'), 'no right': hide('right'),
             'left and bottom, grid': lambda f, a: (hide('top', 'right')(f, a), a.grid(), a.set(xlim=(0, 10), ylim=(-1, 1)))}

@pytest.mark.parametrize('dpi', [60, 100, 150, 300])
@pytest.mark.parametrize('size', [(6.4, 4.8), (3, 2), (4, 4), (8, 3), (3, 6)], ids=str)
def test_sizes(size, dpi): check(size=size, dpi=dpi)

@pytest.mark.parametrize('lw', [.4, .8, 1.5, 3])
@pytest.mark.parametrize('dpi', [100, 200])
def test_linewidths(lw, dpi): check(lw=lw, dpi=dpi)

@pytest.mark.parametrize('style', ['dark_background', 'grayscale', 'classic', 'bmh', 'tableau-colorblind10', '_mpl-gallery',
                                   'seaborn-v0_8-whitegrid', 'seaborn-v0_8-ticks', 'seaborn-v0_8-paper'])
def test_styles(style): check(style=style, lw=1.)

@pytest.mark.parametrize('name', FURNITURE)
def test_furniture(name): check(more=FURNITURE[name], dpi=110, curves='map' not in name)

@pytest.mark.parametrize('name', ['grid', 'colour bar', 'twin axes', 'legend', 'left and bottom'])
def test_dark(name): check(more=FURNITURE[name], style='dark_background')

@pytest.mark.parametrize('quality', [50, 75, 95])
def test_jpeg(quality): check(format='jpg', pil_kwargs=dict(quality=quality))

def test_transparent_page(): check(transparent=True)
def test_grey_and_palette():
    im, place = draw()
    for mode in ('L', '1', 'P'): assert np.abs(np.subtract(find_frame(im.convert(mode)), place)).max() <= 3

@functools.cache
def plot(name): return draw(more=FURNITURE[name], curves=name != 'colour bar')

@pytest.mark.parametrize('scale', [.5, .6, .77, 1.3, 1.7, 2])
@pytest.mark.parametrize('name', ['grid', 'colour bar', 'twin axes', 'left and bottom'])
def test_screenshots_that_were_scaled(name, scale):
    im, place = plot(name)
    size = [round(scale*s) for s in im.size]
    found = find_frame(im.convert('RGB').resize(size, Image.Resampling.BICUBIC))
    assert np.abs(np.subtract(found, np.multiply(place, scale))).max() <= 2 + scale

def test_noise_of_a_scanner():
    im, place = draw()
    x = np.asarray(im.convert('L'))*.9 + 10 + np.random.default_rng(0).normal(0, 5, im.size[::-1])
    assert np.abs(np.subtract(find_frame(x.clip(0, 255).astype(np.uint8)), place)).max() <= 3

def test_tight_margins():
    im, _ = draw(bbox_inches='tight', pad_inches=.02)
    l, t, r, b = find_frame(im)
    assert abs(r - l - 496) <= 4 and abs(b - t - 369.6) <= 4

def page(x): return np.pad(x, 50, constant_values=255)

@pytest.mark.parametrize('make', [
    lambda r: r.integers(0, 256, (48, 64, 3), np.uint8), lambda r: r.integers(0, 2, (300, 400), np.uint8)*255,
    lambda r: np.asarray(Image.fromarray(r.integers(0, 256, (6, 8, 3), np.uint8)).resize((640, 480))),
    lambda r: page(np.asarray(Image.fromarray(r.integers(0, 256, (6, 8), np.uint8)).resize((640, 480)))),
    lambda r: np.full((200, 300), 255, np.uint8), lambda r: np.zeros((1, 1), np.uint8), lambda r: np.eye(300, dtype=np.uint8)*255,
    lambda r: page(np.zeros((300, 400), np.uint8)), lambda r: page(np.zeros((2, 400), np.uint8))],
    ids='noise,binary noise,photograph,photograph on a page,empty page,one pixel,diagonal,black rectangle,one line'.split(','))
def test_no_frame(make):
    with pytest.raises(ValueError, match='no frame found: expected a left and a bottom line, .* the longest horizontal run is') as e:
        find_frame(make(np.random.default_rng(0)))
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('more', [hide('top', 'right', 'left', 'bottom'), hide('left', 'bottom'), lambda f, a: a.axis('off')])
def test_spines_off(more):
    with pytest.raises(ValueError, match='no frame found'): find_frame(draw(more=more)[0])

@pytest.mark.parametrize('style', ['ggplot', 'fivethirtyeight', 'seaborn-v0_8-darkgrid'])
def test_grid_without_frame(style):
    with pytest.raises(ValueError, match='no frame found'): find_frame(draw(style=style)[0])

def test_digits_have_no_frame():
    found = 0
    for x in mnist('test').pixels[:500]:
        try: found += bool(find_frame(255 - x))
        except ValueError: pass
    assert found < 5

def folder(path, n, **kwargs):
    path.mkdir()
    im = draw(**kwargs)[0]
    for i in range(n): im.save(path/f'{i:02}.png')
    return path

def test_infers_plots(tmp_path):
    plots, colours = dict(channels=1, crop='frame', ink=True), dict(channels=3, crop='frame', ink=False)
    assert infer_reading(folder(tmp_path/'a', 4)) == plots | dict(size=(95, 128))
    assert infer_reading(folder(tmp_path/'b', 3, size=(3, 2), dpi=40)) == plots | dict(size=(59, 91))
    assert infer_reading(folder(tmp_path/'c', 3, more=heatmap, curves=False)) == colours | dict(size=(119, 128))
    assert infer_reading(folder(tmp_path/'d', 3, style='dark_background')) == colours | dict(size=(95, 128))
    assert infer_reading(folder(tmp_path/'e', 3, more=lambda f, a: a.axis('off')))['crop'] is None

def test_one_stranger_in_ten_is_let_by_and_left_out(tmp_path):
    d = folder(tmp_path/'a', 19)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(d/'noise.png')
    how = infer_reading(d)
    assert how['crop'] == 'frame' and how['ink']
    with pytest.warns(UserWarning, match='1 of 20 images left out'): images = Images.from_folder(d, **how)
    assert len(images) == 19 and images.skipped[0][0] == 'noise.png' and 'no frame found' in images.skipped[0][1]
    assert np.median(images.pixels) == 0 and images.pixels.max() > 150

def test_plain_values(tmp_path):
    how = infer_reading(folder(tmp_path/'a', 2))
    assert [type(v) for v in how['size']] == [int, int] and type(how['channels']) is int and type(how['ink']) is bool
