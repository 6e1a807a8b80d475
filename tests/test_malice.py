"A file that is a program and calls itself by the name of one that we read back is not run, and is told in one line that names it."
import hashlib, io, json, pickle, shutil
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from PIL import Image
import cae.cli, cae.clusters, cae.maps
from cae.cli import main, place_images, vectorize_images
from cae.clusters import Groups, load_groups
from cae.images import dataloaders, mnist
from cae.large import Vectors, open_images, place_to, store_images, vectorize_to
from cae.learner import Resume, autoencoder_learner, load
from cae.maps import NearestMap
from cae.models import ResNetAutoencoder
from conftest import hasty_map, made_up_card

class Malice:
    "Whoever loads this leaves a file behind."
    def __init__(self, mark): self.mark = mark
    def __reduce__(self): return Path.touch, (self.mark,)

def written(f):
    buf = io.BytesIO()
    f(buf)
    return buf.getvalue()

FORMS = {   # name: the program as bytes, and what runs it
    'pickle': (pickle.dumps, pickle.load),
    'pickle in text': (lambda x: pickle.dumps(x, 0), pickle.load),
    'torch.save': (lambda x: written(lambda f: torch.save(x, f)), lambda f: torch.load(f, weights_only=False)),
    'npy': (lambda x: written(lambda f: np.save(f, np.array([x], object), allow_pickle=True)), lambda f: np.load(f, allow_pickle=True)),
    'npz': (lambda x: written(lambda f: np.savez(f, np.array([x], object))), lambda f: np.load(f, allow_pickle=True)['arr_0']),
    'half a zip': (lambda x: written(lambda f: torch.save(x, f))[:-30], None)}

@pytest.fixture
def mark(tmp_path):
    "Where the program leaves its file; afterwards it was not run."
    yield tmp_path/'it ran'
    assert not (tmp_path/'it ran').exists(), 'the program was run'

@pytest.mark.parametrize('form', [form for form, (_, run) in FORMS.items() if run])
def test_it_is_a_program(form, tmp_path):
    "Loaded as people do it, it runs: otherwise all that follows says nothing."
    make, run = FORMS[form]
    (tmp_path/'program').write_bytes(make(Malice(tmp_path/'it ran')))
    with open(tmp_path/'program', 'rb') as f: run(f)
    assert (tmp_path/'it ran').exists()

COMMAND = '--epochs', '1', '--memory', '0.0001', '--sample', '20'

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with 30 pictures, a run of `cae discover` that was stopped before it wrote its answers, and one that was finished; maps and card are made in no time."
    d = tmp_path_factory.mktemp('place')
    (d/'pictures').mkdir()
    for i, x in enumerate(mnist('test')[:30].pixels[:, 0]): Image.fromarray(x).save(d/'pictures'/f'{i:02}.png')
    def stopped(*args, **kwargs): raise OSError('stopped')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cae.maps, 'fit_map', hasty_map)
        patch.setattr(cae.clusters, 'report_card', made_up_card)
        with patch.context() as once:
            once.setattr(cae.cli, '_write', stopped)
            assert main(['discover', str(d/'pictures'), '--out', str(d/'unfinished'), *COMMAND]) == 1
        shutil.copytree(d/'unfinished', d/'finished')
        assert main(['discover', str(d/'pictures'), '--out', str(d/'finished'), *COMMAND]) == 0
    return d

@pytest.fixture
def here(place, tmp_path):
    "A copy of it that may be spoilt."
    return shutil.copytree(place, tmp_path/'copy')

def go_on(d):
    plt.close('all')                                                     # what a run that ended with an error had drawn
    return main(['discover', str(d/'pictures'), '--out', str(d/'unfinished'), *COMMAND])

def train(path):
    "A training whose state is kept at `path`."
    learn = autoencoder_learner(dataloaders(mnist('test')[:30], bs=10, device='cpu'), ResNetAutoencoder(28, n_latent=4))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Resume(path))

def place_all(d):
    i, z = Vectors(d/'finished/vectors.parquet').sample(20)
    found = Groups(z, NearestMap(z, z[:, :2]), np.zeros(20, int), np.ones(20, np.float32))
    return place_to(found, i, Vectors(d/'finished/vectors.parquet'), d/'finished/places.parquet')

def new_ones(d): return place_images(d/'finished', d/'pictures', d/'placed')
def vectors(d): return vectorize_images(d/'finished', d/'pictures', d/'new.npy')
def network(d): return load(d/'finished/model')
def all_vectors(d): return vectorize_to(network(d), mnist('test')[:30], d/'finished/vectors.parquet')

READ = {    # a file that we leave, and all that reads it back
    'finished/model.json': [network, vectors, new_ones],
    'finished/model.safetensors': [network, vectors, new_ones],
    'finished/report.json': [vectors, new_ones, lambda d: main(['discover', str(d/'pictures'), '--out', str(d/'finished'), *COMMAND])],
    'finished/latents.npy': [new_ones],
    'finished/images.csv': [new_ones],
    'finished/vectors.parquet/_vectors.json': [lambda d: Vectors(d/'finished/vectors.parquet'), all_vectors],
    'finished/vectors.parquet/000000.parquet': [lambda d: Vectors(d/'finished/vectors.parquet').read(0), place_all],
    'finished/places.parquet/_places.json': [place_all],
    'unfinished/.unfinished/images/images.json': [lambda d: open_images(d/'unfinished/.unfinished/images'), lambda d: store_images(d/'pictures', d/'unfinished/.unfinished/images')],
    'unfinished/.unfinished/images/parts/000000.json': [lambda d: open_images(d/'unfinished/.unfinished/images'), lambda d: store_images(d/'pictures', d/'unfinished/.unfinished/images')],
    'unfinished/.unfinished/training.safetensors': [lambda d: train(d/'unfinished/.unfinished/training.safetensors'), go_on],
    'unfinished/.unfinished/groups.safetensors': [lambda d: load_groups(d/'unfinished/.unfinished/groups.safetensors'), go_on],
    'unfinished/.unfinished/run.json': [go_on],
    'unfinished/.unfinished/card.csv': [go_on],
    'unfinished/.unfinished/neighbours.npy': [go_on],
    'unfinished/.unfinished/errors.npy': [go_on]}


def amiss(d, name, read, capsys):
    "What is wrong with how `read` took the file at `name`, if anything is: it shall say, in one line, which file it cannot read, or which model or folder that belongs to."
    capsys.readouterr()
    try: code = read(d)
    except ValueError as e: said = f'cae: {str(e).splitlines()[-1].strip()}'           # fastai puts a line of its own before ours
    except Exception as e: return f'{type(e).__name__}: {e}'
    else:
        said = capsys.readouterr().err.strip()
        if code != 1: return 'it was believed'
    known = d/name, (d/name).with_suffix(''), d/name.split('/')[0]
    if len(said.splitlines()) != 1 or not said.startswith('cae: ') or not any(f'{k}:' in said for k in known): return f'said was only: {said}'

@pytest.mark.filterwarnings('ignore:The .float_precision. argument')
@pytest.mark.parametrize('name', READ)
def test_it_is_not_run(name, here, mark, capsys):
    wrong = {}
    for form, data in [*((form, make(Malice(mark))) for form, (make, _) in FORMS.items()), ('nothing', b'')]:
        (here/name).write_bytes(data)
        for read in READ[name] if form in ('pickle', 'torch.save') else READ[name][:1]:
            if what := amiss(here, name, read, capsys): wrong[form] = what
            assert not mark.exists(), f'{name}: the {form} was run'
    assert not wrong, f'{name}: {wrong}'

def test_weights_whose_sum_is_right(here, mark, capsys):
    about = json.loads((here/'finished/model.json').read_text())
    for form, (make, _) in FORMS.items():
        data = make(Malice(mark))
        (here/'finished/model.safetensors').write_bytes(data)
        (here/'finished/model.json').write_text(json.dumps(about | dict(sha256=hashlib.sha256(data).hexdigest())))
        for read in (network, vectors, new_ones): assert not (what := amiss(here, 'finished/model.safetensors', read, capsys)), f'{form}: {what}'

def test_a_column_that_says_how_it_is_to_be_loaded(here, mark):
    "Parquet files may name a type of column and hold what makes it; PyArrow once unpickled that. Here it is a column as any other."
    path = here/'finished/vectors.parquet/000000.parquet'
    start, names, z = Vectors(path.parent).read(0)
    kind = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), z.shape[1])
    field = pa.field('latents', kind.type, metadata={'ARROW:extension:name': 'arrow.py_extension_type', 'ARROW:extension:metadata': pickle.dumps(Malice(mark))})
    pq.write_table(pa.table([pa.array(names), kind], schema=pa.schema([pa.field('name', pa.string()), field])), path)
    assert pq.read_schema(path).field('latents').metadata[b'ARROW:extension:metadata'] == pickle.dumps(Malice(mark))
    again = Vectors(path.parent).read(0)
    assert again[1] == names and (again[2] == z).all()
