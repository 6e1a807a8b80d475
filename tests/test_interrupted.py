"A run that is killed at any moment and begun again ends with the answers of one that was not: a full disk, kills at random times, and between one file and the next."
import json, os, random, resource, signal, sys, time, traceback
import numpy as np, pytest
from conftest import cae, write_idx

if not hasattr(os, 'fork'): pytest.skip('kills processes, for which it has to fork them', allow_module_level=True)
TIMES = {'report.json', 'report.html'}                     # hold how long everything took, compared without it

def work(out, hurt=lambda: None):
    "`cae discover` in a process of its own, after `hurt()`: its number. Whatever it says goes into a file."
    pid = os.fork()
    if pid: return pid
    try:
        sys.stdout = sys.stderr = open('log', 'a', buffering=1)
        hurt()
        from cae.cli import main
        code = main(['discover', 'three-images-idx3-ubyte', '--out', out, '--epochs', '8'])
    except BaseException:
        traceback.print_exc()
        code = 99
    os._exit(code)

def ended(pid, seconds=300):
    "How the process ended: its exit code, or minus the signal."
    for _ in range(int(seconds*50)):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.02)
    os.kill(pid, signal.SIGKILL)
    raise TimeoutError('it did not end')

def killed_after(pid, seconds):
    "Kill the process in so many seconds; whether it was still at work."
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

def die_at(n, before):
    "The process kills itself when it is about to put the `n`-th file in its place, or has just done so."
    def hurt():
        count, replace = [0], os.replace
        def counted(*args):
            count[0] += 1
            if count[0] == n and before: os.kill(os.getpid(), signal.SIGKILL)
            replace(*args)
            if count[0] == n: os.kill(os.getpid(), signal.SIGKILL)
        os.replace = counted
    return hurt

def answers(out):
    "What the folder holds: names and bytes, of the reports only what is no time."
    res = {p.name: p.read_bytes() for p in out.iterdir() if p.name not in TIMES}
    return res, {k: v for k, v in json.loads((out/'report.json').read_text()).items() if k != 'seconds'}

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with 240 noughts, ones and sixes, whose groups are sure enough to teach; all that is imported is imported, so that processes begin at once."
    import cae.all, cae.cli, cae.explorer
    d = tmp_path_factory.mktemp('place')
    digits = cae.all.mnist('test')
    three = np.flatnonzero(np.isin(digits.labels, (0, 1, 6)))[:240]
    write_idx(d/'three-images-idx3-ubyte', digits.pixels[three, 0])
    write_idx(d/'three-labels-idx1-ubyte', digits.labels[three])
    old = os.getcwd()
    os.chdir(d)
    yield d
    os.chdir(old)

@pytest.fixture(scope='module')
def undisturbed(place):
    "The answers of a run that nobody stopped, and its seconds."
    start = time.perf_counter()
    assert ended(work('undisturbed')) == 0, (place/'log').read_text()
    return *answers(place/'undisturbed'), time.perf_counter() - start

def same(undisturbed, out):
    files, report = answers(out)
    assert sorted(files) == sorted(undisturbed[0])
    assert [k for k in files if files[k] != undisturbed[0][k]] == []
    assert report == undisturbed[1]

def test_the_run_teaches_itself(undisturbed): assert [r['kept'] for r in undisturbed[1]['refinement']][:1] == [True]

def test_killed_again_and_again(undisturbed, place):
    out, rng, kills = place/'killed', random.Random(0), 0
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    assert ended(work('killed', full)) == 1                                       # a full disk is told in one line
    said = (place/'log').read_text()
    assert said.splitlines()[-1].startswith('cae: ') and 'Traceback' not in said and not list(out.rglob('*.part'))
    for n, before in ((1, True), (2, False), (3, True)): kills += ended(work('killed', die_at(n, before))) == -signal.SIGKILL
    for _ in range(8): kills += killed_after(work('killed'), rng.uniform(.2, undisturbed[2]/5))
    for n in range(6, 99, 5):                                                     # and between the last files, a little later each time
        code = ended(work('killed', die_at(n, before=n % 2)))
        kills += code == -signal.SIGKILL
        if code == 0: break
        assert not (out/'report.json').exists() or (out/'.unfinished').exists()
    assert code == 0, (place/'log').read_text()
    print(f'{kills} kills survived')
    assert kills >= 12
    same(undisturbed, out)

def test_what_is_finished_is_not_done_again(undisturbed, place):
    before = {p.name: p.stat().st_mtime_ns for p in (place/'undisturbed').iterdir()}
    (place/'log').write_text('')
    assert ended(work('undisturbed')) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (place/'undisturbed').iterdir()} == before
    assert 'nothing was done again' in (place/'log').read_text() and 'training' not in (place/'log').read_text()

def test_another_run_is_refused_and_named(undisturbed, place):
    for words, says in ((['--epochs', '8', '--seed', '7'], 'seed 42, not 7'), (['--epochs', '9'], 'epochs 8, not 9'), (['--epochs', '8', '--n-latent', '5'], 'n-latent by default, not 5')):
        res = cae('discover', 'three-images-idx3-ubyte', '--out', 'undisturbed', *words, cwd=place)
        assert res.returncode == 1 and says in res.stderr and len(res.stderr.splitlines()) == 1, res.stderr
    write_idx(place/'other-images-idx3-ubyte', np.zeros((240, 28, 28), np.uint8))
    res = cae('discover', 'other-images-idx3-ubyte', '--out', 'undisturbed', '--epochs', 8, cwd=place)
    assert res.returncode == 1 and 'other images' in res.stderr.splitlines()[-1], res.stderr
