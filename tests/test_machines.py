"What becomes of the work when one of those who do it is killed: an error and no half-written file, or somebody else does it."
import json, os, signal, subprocess, sys, textwrap, time
import nbformat, numpy as np, pyarrow.parquet as pq, pytest
from cae.images import mnist
from cae.large import store_images, vectorize_to
from cae.latents import vectorize
from cae.learner import load, save
from cae.machines import vectorize_cluster, vectorize_shared
from cae.models import ResNetAutoencoder
from nbclient import NotebookClient
from safetensors import safe_open

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model')/'model'
    save(ResNetAutoencoder(28, n_latent=8), path)
    return path

program = textwrap.dedent('''
    import os, sys, time, torch
    from cae.all import *
    from fastai.callback.core import Callback
    from fastai.torch_core import rank_distrib
    torch.set_num_threads(1)
    out = sys.argv[1]
    class Told(Callback):
        order = 90
        def after_batch(self):
            if self.train_iter == 5: open(f'{out}/{rank_distrib()}.pid', 'w').write(str(os.getpid()))
            time.sleep(.02)
    learn = autoencoder_learner(dataloaders(mnist('train')[:2000], bs=64), ResNetAutoencoder(28, n_latent=8), cbs=[Told(), Resume(out + '/state.safetensors', every=0)])
    with learn.distrib_ctx(), learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(50, 1e-3)
    vectorize_shared(learn, mnist('test'), out + '/vectors', part=1000)
    save(learn.model, out + '/model')
''')

def killed(folder, program, when, *args, seconds=60):
    "What the launcher of two processes that run `program` says, if the second is killed as soon as `when()`: it ends with an error within so many seconds, and so does the first."
    (folder/'program.py').write_text(program)
    launch = '-m accelerate.commands.launch --multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=no --dynamo_backend=no --main_process_port=0'.split()
    env = os.environ | dict(ACCELERATE_USE_CPU='true', GLOO_SOCKET_IFNAME='lo')
    p = subprocess.Popen([sys.executable, *launch, folder/'program.py', folder, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        pid, end = folder/'1.pid', time.monotonic() + 240
        while not (pid.exists() and pid.read_text() and when()):
            assert p.poll() is None and time.monotonic() < end, p.stderr.read()
            time.sleep(.05)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        _, err = p.communicate(timeout=seconds)
    finally:
        if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
    assert p.returncode != 0 and 'SIGKILL' in err, err
    with pytest.raises(ProcessLookupError): os.kill(int((folder/'0.pid').read_text()), 0)          # nobody is left waiting

def test_a_killed_process_ends_the_run_with_an_error(tmp_path):
    state = tmp_path/'state.safetensors'
    killed(tmp_path, program, state.exists)
    print('learning in two processes, one of them killed: an error, and no half-written file')
    assert {f.name for f in tmp_path.iterdir()} == {'program.py', '0.pid', '1.pid', 'state.safetensors'}, 'something half-written'
    with safe_open(state, 'pt') as f: about, kept = json.loads(f.metadata()['training']), {k: f.get_tensor(k) for k in f.keys()}
    assert 1 <= about['done'] < about['epochs'] == 50 and len(kept['values']) == about['done']
    assert {k[6:]: v.shape for k, v in kept.items() if k.startswith('model.')} == {k: v.shape for k, v in ResNetAutoencoder(28, n_latent=8).state_dict().items()}
    assert all(v.isfinite().all() for v in kept.values())

sharing = textwrap.dedent('''
    import os, sys, time, torch
    from accelerate import PartialState
    from cae.all import *
    from fastai.torch_core import rank_distrib
    torch.set_num_threads(1)
    out, model = sys.argv[1:]
    PartialState(cpu=True)
    open(f'{out}/{rank_distrib()}.pid', 'w').write(str(os.getpid()))
    def slowly(parts):
        for k in parts:
            yield k
            time.sleep(.3)
    vectorize_shared(load(model), mnist('test')[:4000], out + '/vectors', part=100, progress=slowly)
''')

def test_a_killed_process_that_shares_in_vectorizing(model, tmp_path):
    "Within a minute an error; all parts are whole; the next run makes the others, and every image is there once."
    images, folder = mnist('test')[:4000], tmp_path/'vectors'
    def parts(): return sorted(folder.glob('*.parquet'))
    killed(tmp_path, sharing, parts, model, seconds=60)
    made = {f: f.stat().st_mtime_ns for f in parts()}
    assert 1 <= len(made) < 40, f'{len(made)} of 40 parts'
    assert {f.name for f in folder.iterdir() if not f.name.startswith('.')} == {'_vectors.json', *(f.name for f in made)}, 'something else'
    for f in made: assert pq.read_table(f)['name'].to_pylist() == images.names[100*int(f.stem):][:100], f'{f.name} is not whole'
    vectors = vectorize_shared(load(model), images, folder, part=100)
    assert {f: f.stat().st_mtime_ns for f in made} == made, 'what was there was made again'
    assert [n for _, names, _ in vectors for n in names] == images.names, 'not every image once'
    np.testing.assert_allclose(np.concatenate([z for _, _, z in vectors]), vectorize(load(model), images), atol=1e-4)
    assert {f.name for f in folder.iterdir()} == {'_vectors.json', *(f'{k:06}.parquet' for k in range(40))}, 'something half-written'
    print(f'{len(images):,} images shared by two processes, one of them killed: an error, no half-written file, and the rest vectorized by the next run')

def test_a_killed_worker_s_files_are_made_by_the_other(model, tmp_path):
    from dask.distributed import Client, LocalCluster
    from PIL import Image
    images = mnist('test')[:3000]
    (tmp_path/'pictures').mkdir()
    for i, x in enumerate(images.pixels[:, 0]): Image.fromarray(x).save(tmp_path/'pictures'/f'{i:05}.png', compress_level=0)
    stored = store_images(tmp_path/'pictures', tmp_path/'stored')
    killed = []
    def watched(parts):
        for i, k in enumerate(parts):
            if i == 3:                                                  # three are finished, the rest is handed out
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)
            yield k
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        vectors = vectorize_cluster(client, model, tmp_path/'stored', tmp_path/'vectors', part=20, progress=watched)
    assert killed and vectors.n_parts == 150
    print(f'{len(stored):,} images sent to two workers, one of them killed: {sum(len(names) for _, names, _ in vectors):,} vectorized, {len({n for _, names, _ in vectors for n in names}):,} of them different')
    assert [n for _, names, _ in vectors for n in names] == stored.names, 'not every image once'
    np.testing.assert_allclose(np.concatenate([z for _, _, z in vectors]), vectorize(load(model), stored), atol=1e-4)
    assert {p.suffix for p in (tmp_path/'vectors').iterdir()} == {'.parquet', '.json'}

def test_vectorizing_killed_at_random_moments_goes_on(model, tmp_path):
    "Vectors in parts, killed several times by SIGKILL: each run goes on, no file is made twice, and in the end all are the same bytes."
    images = mnist('test')[:4000]
    whole = vectorize_to(load(model), images, tmp_path/'whole', part=100)
    code = f"from cae.all import *; print('begins', flush=True); vectorize_to(load({str(model)!r}), mnist('test')[:4000], {str(tmp_path/'cut')!r}, part=100)"
    kills, made, rng = 0, {}, np.random.default_rng(0)
    for _ in range(4):
        p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        time.sleep(rng.uniform(.05, .6))
        kills += p.poll() is None
        p.kill()
        p.wait()
        for f in (tmp_path/'cut').glob('*.parquet'): assert made.setdefault(f.name, f.stat().st_mtime_ns) == f.stat().st_mtime_ns, f'{f.name} was made twice'
    again = vectorize_to(load(model), images, tmp_path/'cut', part=100)
    print(f'vectorizing: {kills} kills survived')
    assert kills, 'every run was over before it could be killed'
    for k in range(whole.n_parts): assert again.read(k)[1] == whole.read(k)[1] and np.allclose(again.read(k)[2], whole.read(k)[2], atol=1e-4)

def test_two_processes_from_a_notebook_learn_as_one_does(tmp_path):
    "A function that Accelerate starts twice out of a notebook: the losses of one process, every image vectorized once. On processors; two GPUs take the same way."
    train = textwrap.dedent('''
        import json, torch
        from cae.all import *
        from fastai.torch_core import rank_distrib, set_seed
        def train(out):
            torch.set_num_threads(1)
            set_seed(42)
            learn = autoencoder_learner(dataloaders(mnist('train')[:1000], bs=100), ResNetAutoencoder(28, n_latent=8))
            with learn.distrib_ctx(), learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 4e-3)
            vectors = vectorize_shared(learn, mnist('test')[:1000], out + '/vectors', part=300)
            if not rank_distrib(): open(out + '/said.json', 'w').write(json.dumps([[*v] for v in learn.recorder.values] + [[n for _, names, _ in vectors for n in names]]))
    ''')
    twice = textwrap.dedent('''
        import os
        os.environ.update(ACCELERATE_USE_CPU='true', GLOO_SOCKET_IFNAME='lo')
        from accelerate import notebook_launcher
        notebook_launcher(train, args=('.',), num_processes=2)
    ''')
    def said(folder, start):
        folder.mkdir()
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (train, start)])
        NotebookClient(nb, timeout=240, resources=dict(metadata=dict(path=folder))).execute()
        return json.loads((folder/'said.json').read_text())
    (*one, names), (*two, names_2) = said(tmp_path/'one', "train('.')"), said(tmp_path/'two', twice)
    np.testing.assert_allclose(one, two, rtol=1e-4)
    assert names == names_2 == mnist('test')[:1000].names
