import subprocess, sys
import numpy as np, pytest
from cae.images import mnist

def write_idx(path, x):
    "`x` as an IDX file of bytes."
    path.write_bytes(bytes([0, 0, 8, x.ndim]) + np.array(x.shape, '>u4').tobytes() + x.astype(np.uint8).tobytes())

def cae(*words, cwd):
    "What the command does in a process of its own, as from a shell."
    return subprocess.run([sys.executable, '-c', 'import sys; from cae.cli import main; sys.exit(main())', *map(str, words)],
                          cwd=cwd, capture_output=True, text=True)

@pytest.fixture(scope='session')
def digits(): return mnist('test')[:300]

@pytest.fixture(scope='session')
def idx(digits, tmp_path_factory):
    "A folder with 300 digits as an IDX pair."
    d = tmp_path_factory.mktemp('idx')
    write_idx(d/'few-images-idx3-ubyte', digits.pixels[:, 0])
    write_idx(d/'few-labels-idx1-ubyte', digits.labels)
    return d
