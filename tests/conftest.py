import multiprocessing, os, signal, subprocess, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd, pytest
from cae.images import mnist
from cae.maps import fit_map

def write_idx(path, x):
    "`x` as an IDX file of bytes."
    path.write_bytes(bytes([0, 0, 8, x.ndim]) + np.array(x.shape, '>u4').tobytes() + x.astype(np.uint8).tobytes())

os.environ.setdefault('GOMP_SPINCOUNT', '10000')     # threads that wait soon sleep: on a busy machine a run takes seconds instead of minutes

signal.signal(signal.SIGINT, signal.default_int_handler)   # after `nohup` Ctrl-C would be ignored here, and so by every process begun here

def start(*words, cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs):
    "The command in a process of its own, as from a shell."
    return subprocess.Popen([sys.executable, '-c', 'import sys; from cae.cli import main; sys.exit(main())', *map(str, words)],
                            cwd=cwd, stdout=stdout, stderr=stderr, text=True, **kwargs)

def _typed(words, cwd, files):
    "The command with its output in two files, in a process that was forked for it."
    os.chdir(cwd)
    for fd, path in zip((1, 2), files): os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), fd)
    from cae.cli import main
    sys.exit(main(list(words)))

def forked(target, *args):
    "A process forked from one that has imported all there is to import, which takes seconds, and has done nothing yet; it is started."
    how = multiprocessing.get_context('forkserver')
    how.set_forkserver_preload(['cae.all', 'cae.cli', 'cae.explorer'])
    p = how.Process(target=target, args=args)
    p.start()
    return p

def cae(*words, cwd):
    "What the command says and how it ends."
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        p = start(*words, cwd=cwd)
        out, err = p.communicate()
        return subprocess.CompletedProcess(words, p.returncode, out, err)
    with tempfile.TemporaryDirectory() as d:
        files = [f'{d}/out', f'{d}/err']
        p = forked(_typed, [str(w) for w in words], str(cwd), files)
        p.join()
        return subprocess.CompletedProcess(words, p.exitcode, *(Path(f).read_text() for f in files))

def hasty_map(z, **how):
    "`fit_map` in no time, for tests that are about something else."
    return fit_map(z, start=z[:, :2], n_iter=5, **how)

def made_up_card(*args, **how):
    "A report card in no time."
    return pd.DataFrame(dict(network=[.5], PCA=[.4], pixels=[.3], source=['made up']), index=['trustworthiness'])

@pytest.fixture(scope='session')
def digits(): return mnist('test')[:300]

@pytest.fixture(scope='session')
def idx(digits, tmp_path_factory):
    "A folder with 300 digits as an IDX pair."
    d = tmp_path_factory.mktemp('idx')
    write_idx(d/'few-images-idx3-ubyte', digits.pixels[:, 0])
    write_idx(d/'few-labels-idx1-ubyte', digits.labels)
    return d

@pytest.fixture(scope='session')
def run(idx):
    "What `cae discover` said about the 300 digits, and the folder that it left."
    res = cae('discover', 'few-images-idx3-ubyte', '--out', 'answers', '--epochs', 30, cwd=idx)
    assert res.returncode == 0, res.stderr
    return res, idx/'answers'
