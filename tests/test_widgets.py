"The widgets of the notebook, in JupyterLab, in a browser without a screen: what a reader sees, points at and moves."
import io, os, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import nbformat, numpy as np, pytest
from PIL import Image

for what in ('jscatter', 'ipywidgets', 'jupyterlab', 'playwright.sync_api'):
    pytest.importorskip(what, reason=f'the widgets are tested with {what}, which is not here')
from playwright.sync_api import sync_playwright
chromium = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = pytest.mark.skipif(not chromium, reason='the widgets are tested in chromium, which is not here')

hostile = '<img src=x onerror="window.ran=1">"\'&amp;$x^2$\n' + 'long '*60
prepare = f'''
import numpy as np, torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from cae.images import mnist
from cae.latents import vectorize
from cae.maps import NearestMap
from cae.clusters import Groups
from cae.explorer import *
images = mnist('test')[:300]

class Linear(torch.nn.Module):                             # PCA as a network: it draws digits at once, and nothing is trained
    channels, size, n_latent = 1, (28, 28), 16
    def __init__(self, x):
        super().__init__()
        pca = PCA(16, random_state=0).fit(x)
        self.mean, self.v = (torch.nn.Parameter(torch.tensor(a, dtype=torch.float32)) for a in (pca.mean_, pca.components_))
    def encode(self, x): return (x.flatten(1) - self.mean) @ self.v.T
    def generate(self, z): return (z @ self.v + self.mean).clamp(0, 1).reshape(-1, 1, 28, 28)
    def forward(self, x): return self.generate(self.encode(x))

model = Linear(images.pixels.reshape(300, -1)/255)
latents = vectorize(model, images)
labels = KMeans(4, n_init=1, random_state=0).fit_predict(latents)
labels[:20] = -1
images.names, names = [{hostile!r}]*300, {{0: {hostile!r}, 1: 'the <b>ones</b>', 2: 'twos', 3: 'twos'}}
found = Groups(latents, NearestMap(latents, latents[:, :2]), labels, np.linspace(0, 1, 300))
'''
cells = [prepare, 'scatter = explore(images, found, model, names)\nscatter', 'walk(model, images, 0, 1, n=11)', 'vary(model, images, found, 1)',
         'print(type(scatter.selection()).__name__, len(scatter.selection()), scatter.selection().dtype.kind, "chosen")']

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def wait_for(ready, seconds=60):
    "Whatever `ready()` returns as soon as that is something; exceptions count as nothing."
    end, why = time.time() + seconds, None
    while time.time() < end:
        try:
            if res := ready(): return res
        except OSError as e: why = e
        time.sleep(.1)
    raise TimeoutError(f'not ready after {seconds} s ({why})')

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab of its own, with one notebook, `widgets.ipynb`."
    d = tmp_path_factory.mktemp('lab')
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata.kernelspec = dict(name='python3', display_name='Python 3')
    nbformat.write(nb, d/'widgets.ipynb')
    settings = d/'settings/@jupyterlab/apputils-extension'
    settings.mkdir(parents=True)
    (settings/'notification.jupyterlab-settings').write_text('{"fetchNews": "false"}')      # no question about news over the widgets
    url, env = f'http://127.0.0.1:{free_port()}', dict(os.environ, JUPYTERLAB_SETTINGS_DIR=str(d/'settings'))
    env |= {f'JUPYTER_{k}_DIR': str(d/k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')} | {'JUPYTERLAB_WORKSPACES_DIR': str(d/'workspaces')}
    env['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get('PYTHONPATH')])])
    with open(d/'log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--ip=127.0.0.1', f'--port={url.split(":")[-1]}',
                                   '--allow-root', '--IdentityProvider.token=', '--ServerApp.port_retries=0', '--expose-app-in-browser',
                                   '--LabApp.extension_manager=readonly', f'--ServerApp.root_dir={d}'], cwd=d, env=env, stdout=log, stderr=log)
    try:
        wait_for(lambda: urllib.request.urlopen(f'{url}/api'))
        yield url
    finally:
        server.terminate()
        server.wait(20)

@pytest.fixture(scope='module')
def page(lab):
    "The notebook in the browser, all of its cells run; what the browser complained of is in `.complaints`."
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--enable-unsafe-swiftshader', '--use-angle=swiftshader',
                                                                    '--ignore-gpu-blocklist'])
        page = browser.new_page(viewport=dict(width=1300, height=1000))
        page.set_default_timeout(60_000)
        page.complaints = []
        page.on('console', lambda m: page.complaints.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: page.complaints.append(str(e)))
        page.goto(f'{lab}/doc/tree/widgets.ipynb')
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        cell(page, 4).get_by_text('chosen').last.wait_for()
        page.get_by_role('slider').nth(3).wait_for()
        yield page
        browser.close()

def cell(page, i): return page.locator('.jp-Notebook .jp-Cell').nth(i)
def outputs(page, i): return cell(page, i).locator('.jp-Cell-outputArea')
def pixels(locator): return np.array(Image.open(io.BytesIO(locator.screenshot())).convert('RGB')).astype(int)
def colourful(x): return np.argwhere((np.ptp(x, axis=2) > 60))

def canvas(page):
    "The map in the browser, brought into sight."
    res = outputs(page, 1).locator('canvas').first
    res.scroll_into_view_if_needed()
    return res

def point_at(page, box):
    "Move the mouse over the map until it stands on a point, by what is drawn there."
    for y, x in np.random.default_rng(0).permutation(colourful(pixels(canvas(page)))):
        if x < 250: continue                                                  # not the legend
        page.mouse.move(box['x'] + float(x), box['y'] + float(y), steps=3)
        try: return page.wait_for_function("() => document.querySelector('.name-value-text')?.textContent", timeout=2000)
        except Exception: pass

def test_map_is_drawn_in_the_colours_of_the_groups(page):
    canvas(page)
    wait_for(lambda: len(colourful(pixels(canvas(page)))) > 300, 20)
    x = pixels(canvas(page))
    from cae.maps import group_colors
    from matplotlib.colors import to_rgb
    for c in group_colors[:4]: assert (abs(x - np.array(to_rgb(c))*255).max(-1) < 12).sum() > 10, c

def test_legend_has_names_as_text(page):
    legend = outputs(page, 1).locator('.legend').inner_text()
    assert 'the <b>ones</b>' in legend and 'twos (group 3)' in legend and 'none' in legend and '<img' in legend

def test_tooltip_has_picture_and_text(page):
    box = canvas(page).bounding_box()
    assert point_at(page, box), 'no tooltip came'
    name = page.locator('.name-value-text').inner_text()
    assert name.startswith('<img src=x onerror') and '…' in name and len(name) <= 60
    for what in ('confidence', 'label', 'color'): assert page.locator(f'.{what}-value-text').inner_text()
    urls = page.evaluate("[...document.querySelectorAll('div')].map(e => e.style.backgroundImage).filter(b => b.includes('data:image/png'))")
    look = "url => new Promise(r => { const im = new Image(); im.onload = () => r([im.width, im.height]); im.src = url })"
    size = page.evaluate(look, urls[0][5:-2])
    assert size[0] > 1.8*size[1] > 180                                       # the image and its reproduction beside it

def test_lasso_comes_back_as_indices(page):
    box = canvas(page).bounding_box()
    outputs(page, 1).locator('button').nth(1).click()
    inner = box['x'] + box['width']/2, box['y'] + box['height']/2
    page.mouse.move(inner[0] - 200, inner[1] - 200)
    page.mouse.down()
    for x, y in [(200, -200), (200, 200), (-200, 200), (-200, -190)]: page.mouse.move(inner[0] + x, inner[1] + y, steps=15)
    page.mouse.up()
    def chosen():
        cell(page, 4).locator('.jp-InputArea-editor').click()
        page.keyboard.press('Control+Enter')
        page.wait_for_timeout(500)                                           # what stood there is cleared at once, what is new comes a moment later
        words = outputs(page, 4).inner_text().split()
        return words[:1] == ['ndarray'] and 0 < int(words[1]) <= 300 and words[2] == 'u'
    wait_for(chosen, 20)

def move(page, i, slider, picture):
    "Whether the picture changes when the slider gets an arrow key."
    slider, picture = outputs(page, i).get_by_role('slider').nth(slider), outputs(page, i).locator('img').nth(picture)
    slider.scroll_into_view_if_needed()
    before = pixels(picture)
    slider.click()                                                           # as a reader would, who then goes on with the arrow keys
    for _ in range(4): page.keyboard.press('ArrowRight')
    return wait_for(lambda: (pixels(picture) != before).any(), 20)

def test_walk_moves_by_keyboard(page):
    assert move(page, 2, 0, 1)
    wait_for(lambda: '40% of the way' in outputs(page, 2).inner_text(), 20)
    assert outputs(page, 2).locator('img').nth(1).bounding_box()['height'] >= 224
    assert '<img src=x' in outputs(page, 2).inner_text()                     # the name, as text

def test_vary_moves_by_keyboard_and_back(page):
    picture = outputs(page, 3).locator('img').first
    before = pixels(picture)
    for slider in range(3): assert move(page, 3, slider, 0)
    assert '% of the variance' in outputs(page, 3).inner_text()
    outputs(page, 3).get_by_role('button', name='back to the mean').click()
    wait_for(lambda: (pixels(picture) == before).all(), 20)

def test_nothing_ran_and_nobody_complained(page):
    assert not page.evaluate('window.ran')
    ours = [c for c in page.complaints if 'websocket' not in c.lower() and 'favicon' not in c]
    assert not ours
