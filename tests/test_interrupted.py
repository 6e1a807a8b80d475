"A run that is killed at any moment and begun again ends with the answers of one that was not: a full disk, kills at random times, and between one file and the next."
import json, multiprocessing, os, random, resource, signal, sys, time
import numpy as np, pytest
from PIL import Image
from cae.images import mnist
from conftest import cae, forked, write_idx

if 'forkserver' not in multiprocessing.get_all_start_methods(): pytest.skip('kills processes, which it makes by forking', allow_module_level=True)
TIMES = {'report.json', 'report.html'}                     # hold how long everything took, compared without it

def full_disk(): resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

def die_at(n, before):
    "The process kills itself when it is about to put the `n`-th file in its place, or has just done so."
    count, replace = [0], os.replace
    def counted(*args):
        count[0] += 1
        if count[0] == n and before: os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
        if count[0] == n: os.kill(os.getpid(), signal.SIGKILL)
    os.replace = counted

DIGITS = 'three-images-idx3-ubyte', '--epochs', '8'
LARGE = 'pictures', '--epochs', '8', '--sample', '150', '--memory', '0.0001'

def command(place, out, hurt, words):
    "`cae discover` after `hurt`, a function and what it is given; whatever is said goes into a file."
    os.chdir(place)
    sys.stdout = sys.stderr = open('log', 'a', buffering=1)
    if hurt: hurt[0](*hurt[1:])
    from cae.cli import main
    sys.exit(main(['discover', *words, '--out', out]))

def work(place, out, *hurt, words=DIGITS):
    "The command in a process of its own."
    return forked(command, place, out, hurt, words)

def ended(p, seconds=300):
    "How the process ended: its exit code, or minus the signal."
    p.join(seconds)
    if p.exitcode is None:
        p.kill()
        raise TimeoutError('it did not end')
    return p.exitcode

def killed_after(p, seconds):
    "Kill the process in so many seconds; whether it was still at work."
    time.sleep(seconds)
    p.kill()
    return ended(p) == -signal.SIGKILL

def answers(out):
    "What the folder holds: names and bytes, of the reports only what is no time."
    res = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob('*') if p.name not in TIMES and p.is_file()}
    return res, {k: v for k, v in json.loads((out/'report.json').read_text()).items() if k != 'seconds'}

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with 240 noughts, ones and sixes, whose groups are sure enough to teach."
    d = tmp_path_factory.mktemp('place')
    digits = mnist('test')
    three = np.flatnonzero(np.isin(digits.labels, (0, 1, 6)))[:240]
    write_idx(d/'three-images-idx3-ubyte', digits.pixels[three, 0])
    write_idx(d/'three-labels-idx1-ubyte', digits.labels[three])
    return d

@pytest.fixture(scope='module')
def undisturbed(place):
    "The answers of a run that nobody stopped, and its seconds."
    ended(work(place, 'nothing', sys.exit))                                       # by then all is imported
    start = time.perf_counter()
    assert ended(work(place, 'undisturbed')) == 0, (place/'log').read_text()
    return *answers(place/'undisturbed'), time.perf_counter() - start

def same(undisturbed, out):
    files, report = answers(out)
    assert sorted(files) == sorted(undisturbed[0])
    assert [k for k in files if files[k] != undisturbed[0][k]] == []
    assert report == undisturbed[1]

def test_the_run_teaches_itself(undisturbed): assert [r['kept'] for r in undisturbed[1]['refinement']][:1] == [True]

def test_killed_again_and_again(undisturbed, place):
    out, rng, kills = place/'killed', random.Random(0), 0
    assert ended(work(place, 'killed', full_disk)) == 1                                       # a full disk is told in one line
    said = (place/'log').read_text()
    assert said.splitlines()[-1].startswith('cae: ') and 'Traceback' not in said and not list(out.rglob('*.part'))
    for n, before in ((1, True), (2, False), (3, True)): kills += ended(work(place, 'killed', die_at, n, before)) == -signal.SIGKILL
    for _ in range(8): kills += killed_after(work(place, 'killed'), rng.uniform(.2, undisturbed[2]/5))
    for n in range(6, 99, 5):                                                     # and between the last files, a little later each time
        code = ended(work(place, 'killed', die_at, n, n % 2))
        kills += code == -signal.SIGKILL
        if code == 0: break
        assert not (out/'report.json').exists() or (out/'.unfinished').exists()
    assert code == 0, (place/'log').read_text()
    print(f'cae discover: {kills} kills survived')
    assert kills >= 12
    same(undisturbed, out)

def test_more_than_fits_killed_again_and_again(place):
    "Pictures that are decoded into a file, a map of a sample, and the rest placed: killed while decoding, learning, vectorizing, placing and writing."
    (place/'pictures').mkdir()
    for i, x in enumerate(mnist('test')[:240].pixels[:, 0]): Image.fromarray(x).save(place/'pictures'/f'{i:03}.png')
    assert ended(work(place, 'large', words=LARGE)) == 0, (place/'log').read_text()
    whole, kills, code = answers(place/'large'), 0, 0
    assert {'vectors.parquet/000000.parquet', 'places.parquet/000000.parquet'} <= set(whole[0]) and not any(name.startswith('.') for name in whole[0])
    for n in (2, 4, 7, *range(10, 99, 4)):
        code = ended(work(place, 'cut', die_at, n, n % 2, words=LARGE))
        kills += code == -signal.SIGKILL
        if code == 0: break
    assert code == 0, (place/'log').read_text()
    print(f'cae discover --memory --sample: {kills} kills survived')
    assert kills >= 5
    files, report = answers(place/'cut')
    assert sorted(files) == sorted(whole[0]) and [k for k in files if files[k] != whole[0][k]] == [] and report == whole[1]

def test_what_is_finished_is_not_done_again(undisturbed, place):
    before = {p.name: p.stat().st_mtime_ns for p in (place/'undisturbed').iterdir()}
    (place/'log').write_text('')
    assert ended(work(place, 'undisturbed')) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (place/'undisturbed').iterdir()} == before
    assert 'nothing was done again' in (place/'log').read_text() and 'training' not in (place/'log').read_text()

def test_another_run_is_refused_and_named(undisturbed, place):
    for words, says in ((['--epochs', '8', '--seed', '7'], 'seed 42, not 7'), (['--epochs', '9'], 'epochs 8, not 9'), (['--epochs', '8', '--n-latent', '5'], 'n-latent by default, not 5')):
        res = cae('discover', 'three-images-idx3-ubyte', '--out', 'undisturbed', *words, cwd=place)
        assert res.returncode == 1 and says in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr
    write_idx(place/'other-images-idx3-ubyte', np.zeros((240, 28, 28), np.uint8))
    res = cae('discover', 'other-images-idx3-ubyte', '--out', 'undisturbed', '--epochs', 8, cwd=place)
    assert res.returncode == 1 and 'other images' in res.stderr.splitlines()[-1], res.stderr
