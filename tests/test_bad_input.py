"Bad input gets one line that names the file and what is wrong with it, no traceback, and nothing is written."
import gzip, json, shutil, sys
import numpy as np, pytest, torch
from PIL import Image
from conftest import cae, write_idx

HEAD = 'label,' + ','.join(f'pixel{i}' for i in range(784))
ROW = '7,' + ','.join(['0']*784)

def text(s): return lambda p: p.write_text(s)
def raw(b): return lambda p: p.write_bytes(b)
def idx(shape): return lambda p: write_idx(p, np.zeros(shape))
def folder(**files):
    def make(p):
        p.mkdir()
        for name, data in files.items(): (p/name.replace('_', '.')).write_bytes(data)
    return make

def spoilt(data): return data[:5000] + bytes(b ^ 255 for b in data[5000:5040]) + data[5040:]

CASES = {
    'missing':            ('nowhere', lambda p: None, 'no such file or folder'),
    'empty folder':       ('scans', folder(), 'no image in this folder'),
    'no image in it':     ('scans', folder(notes_txt=b'hello'), 'no image in this folder'),
    'only broken images': ('scans', folder(a_png=b'', b_jpg=b'no'), 'none of its 2 images can be read'),
    'missing column':     ('a.csv', text(HEAD.replace('pixel9,', '') + '\n' + ROW), 'no column pixel9'),
    'ragged row':         ('a.csv', text(f'{HEAD}\n{ROW}\n{ROW},0\n'), 'row 2 has 786 values'),
    'short row':          ('a.csv', text(f'{HEAD}\n{ROW}\n{ROW[:-2]}\n'), 'row 2 has 784 values'),
    'all rows short':     ('a.csv', text(f'{HEAD}\n{ROW[:-2]}\n{ROW[:-2]}\n'), '784'),
    'not a number':       ('a.csv', text(f'{HEAD}\n{ROW}\n{ROW[:-1]}x\n'), "row 2 has 'x' in column pixel783"),
    'empty cell':         ('a.csv', text(f'{HEAD}\n{ROW}\n{ROW[:-1]}\n'), "row 2 has '' in column pixel783"),
    'not a byte':         ('a.csv', text(f'{HEAD}\n{ROW}\n{ROW[:-1]}999\n'), 'row 2 has a pixel of 999'),
    'header only':        ('a.csv', text(f'{HEAD}\n'), 'no rows'),
    'empty file':         ('a.csv', text(''), 'no column pixel0'),
    'not text':           ('a.csv', raw(b'\xff\xfe\x00\x01' * 50), 'not a text file'),
    'truncated IDX':      ('few-images-idx3-ubyte', raw(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(99)), 'promises 7,056 bytes, it holds 99'),
    'wrong magic number': ('few-images-idx3-ubyte', raw(b'GIF89a' + bytes(99)), 'not an IDX file'),
    'empty IDX':          ('few-images-idx3-ubyte', raw(b''), 'not an IDX file'),
    'labels for images':  ('few-labels-idx1-ubyte', idx(50), '1 dimensions'),
    'damaged gzip':       ('few-images-idx3-ubyte.gz', raw(gzip.compress(bytes(9999))[:-9]), 'damaged gzip'),
    'gzip with a wrong byte': ('few-images-idx3-ubyte.gz', lambda p: p.write_bytes(spoilt(gzip.compress(np.random.default_rng(0).bytes(9999)))), 'damaged gzip'),
    'cut gzip CSV':       ('a.csv.gz', lambda p: p.write_bytes(gzip.compress(f'{HEAD}\n{(ROW + chr(10))*999}'.encode())[:-40]), 'damaged gzip'),
    'not gzip at all':    ('few-images-idx3-ubyte.gz', raw(b'no gzip'), 'damaged gzip'),
    'size not taken':     ('few-images-idx3-ubyte', idx((50, 32, 32)), 'takes images of 28×28, these are 32×32', '--model', 'seed'),
    'size of no sense':   ('few-images-idx3-ubyte', idx((50, 2, 9)), 'a size is a whole number of pixels, at least 4'),
    'latents too long':   ('few-images-idx3-ubyte', idx((50, 8, 8)), '65 numbers cannot sum up an image of 1×8×8', '--n-latent', '65'),
    'too few for a map':  ('few-images-idx3-ubyte', idx((9, 28, 28)), 'at least 10 images; there are 9'),
}

@pytest.mark.parametrize('what', CASES)
def test_one_line_and_nothing_written(what, tmp_path):
    name, make, says, *words = CASES[what]
    make(tmp_path/name)
    res = cae('discover', name, '--out', 'answers', *words, cwd=tmp_path)
    lines = res.stderr.strip().splitlines()
    assert res.returncode == 1
    assert len(lines) == 1 and lines[0].startswith('cae: ') and name in lines[0] and says in lines[0], res.stderr
    assert not (tmp_path/'answers').exists()

def test_answers_cannot_go_into_a_file(tmp_path):
    (tmp_path/'taken').write_text('mine')
    res = cae('discover', 'mnist', '--out', 'taken', cwd=tmp_path)
    assert res.returncode == 1 and 'taken' in res.stderr and 'Traceback' not in res.stderr
    assert (tmp_path/'taken').read_text() == 'mine'

def test_answers_cannot_go_into_the_folder_of_the_pictures(tmp_path):
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path/'a.png')
    res = cae('discover', '.', cwd=tmp_path)
    assert res.returncode == 1 and len(res.stderr.splitlines()) == 1 and 'choose another folder with --out' in res.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']

def test_a_folder_called_mnist_is_not_the_digits(tmp_path, monkeypatch):
    from cae.images import infer_reading, read_images
    (tmp_path/'mnist').mkdir()
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path/'mnist'/'a.png')
    monkeypatch.chdir(tmp_path)
    assert infer_reading('mnist') == {} and len(read_images('mnist')) == 70_000
    assert len(read_images('./mnist/')) == 1 and infer_reading('./mnist/')['size'] == (30, 30)

def test_a_loss_that_is_not_a_number_is_one_line(monkeypatch, capsys, tmp_path, idx):
    import cae.learner
    from cae.cli import main
    honest = cae.learner.plan
    monkeypatch.setattr(cae.learner, 'plan', lambda *args, **kwargs: honest(*args, **kwargs) | dict(lr=1e18))
    assert main(['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path/'out'), '--epochs', '2']) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith('cae: the loss is') and 'try a tenth' in said[0]

def test_what_is_in_the_way_is_named_and_stays(tmp_path, idx, capsys):
    from cae.cli import main
    (tmp_path/'map.png').write_text('mine')
    assert main(['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and 'holds map.png, which no run has left there' in said[0]
    assert [p.name for p in tmp_path.iterdir()] == ['map.png'] and (tmp_path/'map.png').read_text() == 'mine'

def test_what_is_missing_is_missed_before_the_work(tmp_path, idx, capsys, monkeypatch):
    from cae.cli import main
    monkeypatch.setitem(sys.modules, 'pyarrow', None)                       # as where it is not installed
    assert main(['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path/'out'), '--sample', '20']) == 1
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "PyArrow: pip install 'cae[large]'" in err and 'epoch' not in out and not (tmp_path/'out').exists()

@pytest.mark.parametrize('error', [MemoryError(), torch.OutOfMemoryError('CUDA out of memory'), RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
def test_no_memory_is_one_line(error, tmp_path, idx, capsys, monkeypatch):
    import cae.cli
    def full(*args): raise error
    monkeypatch.setattr(cae.cli, 'discover_images', full)
    assert cae.cli.main(['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path/'out')]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and 'not enough memory' in said[0]

def test_a_bug_is_not_taken_for_bad_input(tmp_path, idx, monkeypatch):
    import cae.cli
    def wrong(*args): raise RuntimeError('something is wrong with the program')
    monkeypatch.setattr(cae.cli, 'discover_images', wrong)
    with pytest.raises(RuntimeError): cae.cli.main(['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path/'out')])

# What was written to be read back

RUN = '--model', 'seed', '--epochs', '1', '--sample', '20', '--memory', '.0001'

@pytest.fixture(scope='module')
def left(tmp_path_factory):
    "A folder with all that is read back: 30 pictures, a run with some of them drawn by chance, what one that was cut off says of itself, and stored images."
    from cae.cli import main
    from cae.images import mnist
    from cae.large import store_images
    d = tmp_path_factory.mktemp('left')
    (d/'pictures').mkdir()
    for i, x in enumerate(mnist('test').pixels[:30, 0]): Image.fromarray(x).save(d/'pictures'/f'{i:02}.png')
    assert main(['discover', str(d/'pictures'), '--out', str(d/'out'), *RUN]) == 0
    report = json.loads((d/'out'/'report.json').read_text())
    (d/'out'/'.unfinished').mkdir()
    (d/'out'/'.unfinished'/'run.json').write_text(json.dumps({k: report[k] for k in ('settings', 'seconds')}))
    store_images(d/'pictures', d/'stored')
    return d

def again(d):
    from cae.cli import discover_images
    discover_images(d/'pictures', d/'out', 'seed', epochs=1, sample=20, memory=.0001)

def placed(d):
    from cae.all import Groups, NearestMap, Vectors, place_to
    z = np.load(d/'out'/'latents.npy')
    place_to(Groups(z, NearestMap(z, z[:, :2]), np.zeros(20, int), np.ones(20)), np.arange(20), Vectors(d/'out'/'vectors.parquet'), d/'out'/'places.parquet')

def reader(module, name, *path, **kwargs):
    def read(d):
        from importlib import import_module
        getattr(import_module(module), name)(d.joinpath(*path), **kwargs)
    return read

READ_BACK = [       # a file, what must not be missing in it, what would be of a wrong type, and who reads it
    ('out/model.json', 'sha256', dict(architecture=7), reader('cae.learner', 'load', 'out', 'model')),
    ('out/report.json', 'files', dict(files=3), again),
    ('out/report.json', 'valid_mse', dict(files=[]), again),
    ('out/report.json', 'settings', dict(settings='mine'), again),
    ('out/report.json', 'size', dict(crop='a bit'), reader('cae.cli', 'vectorize_images', 'out', source='mnist')),
    ('out/.unfinished/run.json', 'seconds', dict(seconds=dict(training='long')), again),
    ('stored/images.json', 'how', dict(files='all', folder=3), reader('cae.large', 'open_images', 'stored')),
    ('stored/parts/000000.json', 'names', dict(skipped=[3]), reader('cae.large', 'open_images', 'stored')),
    ('out/vectors.parquet/_vectors.json', 'n_latent', dict(images=30.), reader('cae.large', 'Vectors', 'out', 'vectors.parquet')),
    ('out/places.parquet/_places.json', 'map', dict(groups='two'), placed)]

@pytest.mark.parametrize('path, key, wrong, read', READ_BACK)
def test_a_damaged_note_is_one_line(path, key, wrong, read, left):
    path = left/path
    good = json.loads(path.read_text())
    try:
        for bad in ('[]', '{"half', json.dumps({k: v for k, v in good.items() if k != key}), json.dumps(good | wrong)):
            path.write_text(bad)
            with pytest.raises(ValueError) as e: read(left)
            assert len(str(e.value).splitlines()) == 1 and path.name in str(e.value), e.value
            assert path.read_text() == bad
            if read is again: assert 'choose another folder with --out, or lose that one with --anew' in str(e.value)
    finally: path.write_text(json.dumps(good))

def test_a_damaged_report_is_told_by_the_command_and_lost_with_anew(left, tmp_path, capsys):
    from cae.cli import main
    shutil.copytree(left/'out', tmp_path/'out')
    (tmp_path/'out'/'report.json').write_text('{"settings": {}}')
    files = sorted(tmp_path.rglob('*'))
    words = ['discover', str(left/'pictures'), '--out', str(tmp_path/'out'), *RUN, '--quiet']
    assert main(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith('cae: ') and '--anew' in said[0] and sorted(tmp_path.rglob('*')) == files
    assert main([*words, '--anew']) == 0 and json.loads((tmp_path/'out'/'report.json').read_text())['images'] == 30

@pytest.mark.parametrize('words', [[], ['explode'], ['discover', '--epochs', 'ten'], ['discover', '--epochs', '0'], ['discover', '--n-latent', '-1'], ['discover', '--seed', str(2**32)]])
def test_wrong_words_end_with_two(words, tmp_path):
    res = cae(*words, cwd=tmp_path)
    assert res.returncode == 2 and 'Traceback' not in res.stderr

def test_all_images_alike_are_still_answered(tmp_path):
    write_idx(tmp_path/'same-images-idx3-ubyte', np.full((30, 28, 28), 9))
    res = cae('discover', 'same-images-idx3-ubyte', '--epochs', 1, cwd=tmp_path)
    assert res.returncode == 0 and not res.stderr, res.stderr
    assert 'groups found: 1' in res.stdout

@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'CMYK', 'I;16', 'I', 'F'])
def test_every_mode_is_converted(mode, tmp_path):
    from cae.images import Images
    yy, xx = np.mgrid[:30, :40]
    disc = ((yy - 15)**2 + (xx - 20)**2 < 100)
    im = {'I;16': lambda: Image.fromarray(np.uint16(disc*65535)), 'I': lambda: Image.fromarray(np.int32(disc*70000)),
          'F': lambda: Image.fromarray(np.float32(disc*.3))}.get(mode, lambda: Image.fromarray(np.uint8(disc*255)).convert(mode))()
    im.save(tmp_path/('a.tif' if mode in ('CMYK', 'I', 'F') else 'a.png'))
    x = Images.from_folder(tmp_path)
    assert x.pixels.shape == (1, 1, 30, 40) and x.pixels.dtype == np.uint8
    assert np.abs(x.pixels[0, 0].astype(int) - disc*255).max() <= 2
