import os, subprocess, sys
import numpy as np, pytest
from cae.images import mnist

def write_idx(path, x):
    "`x` as an IDX file of bytes."
    path.write_bytes(bytes([0, 0, 8, x.ndim]) + np.array(x.shape, '>u4').tobytes() + x.astype(np.uint8).tobytes())

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')     # threads that wait sleep: on a busy machine a run takes seconds instead of minutes

def start(*words, cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs):
    "The command in a process of its own, as from a shell."
    return subprocess.Popen([sys.executable, '-c', 'import sys; from cae.cli import main; sys.exit(main())', *map(str, words)],
                            cwd=cwd, stdout=stdout, stderr=stderr, text=True, **kwargs)

def cae(*words, cwd):
    "What the command says and how it ends."
    p = start(*words, cwd=cwd)
    out, err = p.communicate()
    return subprocess.CompletedProcess(words, p.returncode, out, err)

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
