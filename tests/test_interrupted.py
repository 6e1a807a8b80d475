"A run that is killed at any moment and begun again ends with the answers of one that was not: a full disk, kills at random times, and between one file and the next."
import errno, io, json, multiprocessing, os, random, re, resource, shutil, signal, stat, sys, time
from itertools import pairwise
import numpy as np, pytest
from PIL import Image
from safetensors import safe_open
from cae.images import mnist
from cae.large import store_images
from cae.learner import write_whole
from conftest import cae, forked, hasty_map, made_up_card, write_idx

if 'forkserver' not in multiprocessing.get_all_start_methods(): pytest.skip('kills processes, which it makes by forking', allow_module_level=True)
TIMES = {'report.json', 'report.html'}                     # hold how long everything took, compared without it

def full_disk(): resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

def die_at(n, before, name=''):
    "The process kills itself when it is about to put the `n`-th file, or the `n`-th of that `name`, in its place, or has just done so."
    count, replace = [0], os.replace
    def counted(old, new):
        count[0] += name in str(new)
        if count[0] == n and before: os.kill(os.getpid(), signal.SIGKILL)
        replace(old, new)
        if count[0] == n: os.kill(os.getpid(), signal.SIGKILL)
    os.replace = counted

def die_keeping_each(*when):
    "As `die_at`; every epoch is kept, however short."
    from cae.learner import Resume
    Resume.__init__.__defaults__ = 0.,
    die_at(*when)

def quick(n=0):
    "Map and card are made in no time; when the `n`-th file is written, the disk is full after half of it."
    import cae.clusters, cae.large, cae.learner, cae.maps
    cae.maps.fit_map, cae.clusters.report_card, count = hasty_map, made_up_card, [0]
    class Full(io.FileIO):
        def write(self, data):
            super().write(bytes(data)[:len(data)//2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    def opened(path, mode):
        count[0] += mode in ('wb', 'r+b')
        return Full(path, mode.replace('b', '')) if count[0] == n and mode != 'rb' else open(path, mode)
    cae.learner.open = cae.large.open = opened

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

def answers(out):
    "What the folder holds: names and bytes, of the reports only what is no time; which steps took any is not."
    res = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob('*') if p.name not in TIMES and p.is_file()}
    page, n = re.subn('(<th scope="row">seconds</th><td>)[^<]*', r'\1', (out/'report.html').read_text())
    assert n == 1, 'report.html has no row with the seconds'
    return res | {'report.html': page}, {k: sorted(v) if k == 'seconds' else v for k, v in json.loads((out/'report.json').read_text()).items()}

def kept(out, name='training'):
    "How many epochs of a training are kept in the folder `out`."
    path = out/'.unfinished'/f'{name}.safetensors'
    if not path.exists(): return 0
    with safe_open(path, 'np') as f: return json.loads(f.metadata()['training'])['done']

def begun(out, *hurt, seconds=None):
    "The command, killed after so many seconds if it is still at work: how it ended, and which epochs it told of. None that was kept before is among them."
    log, done = out.parent/'log', kept(out)
    before = log.read_text() if log.exists() else ''
    p = work(out.parent, out.name, *hurt)
    if seconds:
        time.sleep(seconds)
        p.kill()
    code = ended(p)
    told = [int(n) for n in re.findall(r'  epoch (\d+):', log.read_text()[len(before):])]
    assert told == [*range(done + 1, done + 1 + len(told))], f'{done} epochs were kept, and told was of {told}'
    assert (out/'report.json').exists() or kept(out) >= done, 'what was kept is lost'
    return code, told

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
    assert [k for k in files if files[k] != undisturbed[0][k]] == [], 'these are others'
    assert report == undisturbed[1]

def survived(codes): return f'{sum(a == -signal.SIGKILL and b in (0, a) for a, b in pairwise(codes))} of {codes.count(-signal.SIGKILL)} kills survived'

def test_the_run_teaches_itself(undisturbed): assert [r['kept'] for r in undisturbed[1]['refinement']][:1] == [True]

def test_killed_again_and_again(undisturbed, place):
    "Each time it goes on: an epoch that is in the file of the training, which is written at most once a second, is not trained again."
    out, rng, codes = place/'killed', random.Random(0), []
    assert begun(out, full_disk)[0] == 1                                                      # a full disk is told in one line
    said = (place/'log').read_text()
    assert said.splitlines()[-1].startswith('cae: ') and 'Traceback' not in said and not list(out.rglob('*.part'))
    for n, before in ((1, True), (2, False), (3, True)): codes.append(begun(out, die_at, n, before)[0])
    while codes.count(-signal.SIGKILL) < 13:                                      # ten times at random
        codes.append(begun(out, seconds=rng.uniform(.2, undisturbed[2]/6))[0])
        if codes[-1]: continue
        same(undisturbed, out)                                                    # finished before it was killed: from the beginning
        shutil.rmtree(out)
    for n in range(6, 99, 5):                                                     # and between the last files, a little later each time
        codes.append(begun(out, die_at, n, n % 2)[0])
        if codes[-1] == 0: break
        assert not (out/'report.json').exists() or (out/'.unfinished').exists()
    assert codes[-1] == 0 and set(codes) == {0, -signal.SIGKILL}, (place/'log').read_text()
    same(undisturbed, out)
    print(f'cae discover: {survived(codes)}')

def test_no_epoch_is_trained_twice(undisturbed, place):
    "Killed after an epoch was kept, and before: only that one is told of again. And the same for a lesson, and for the sharpening."
    def told(*when):
        code, epochs = begun(place/'epochs', die_keeping_each, *when)
        assert code == -signal.SIGKILL
        return epochs, kept(place/'epochs'), kept(place/'epochs', 'lesson0')
    assert told(2, False, 'training.safetensors') == ([1, 2], 2, 0)
    assert told(3, True, 'training.safetensors') == ([3, 4, 5], 4, 0)
    assert told(3, False, 'lesson0.safetensors') == ([5, 6, 7, 8], 8, 3)
    assert told(2, False, 'lesson0.safetensors') == ([], 8, 5)
    def sharpened(*when):
        told(*when, 'sharpened.safetensors')
        return kept(place/'epochs', 'sharpened')
    assert [sharpened(2, False), sharpened(1, True), sharpened(1, False)] == [2, 2, 3]        # of a third of the epochs
    assert ended(work(place, 'epochs')) == 0
    same(undisturbed, place/'epochs')

@pytest.fixture(scope='module')
def pictures(place):
    (place/'pictures').mkdir()
    for i, x in enumerate(mnist('test')[:240].pixels[:, 0]): Image.fromarray(x).save(place/'pictures'/f'{i:03}.png')
    return place

def test_more_than_fits_killed_again_and_again(pictures):
    "Pictures that are decoded into a file, a map of a sample, and the rest placed: killed while decoding, learning, vectorizing, placing and writing."
    place = pictures
    assert ended(work(place, 'large', words=LARGE)) == 0, (place/'log').read_text()
    whole, codes = answers(place/'large'), []
    assert {'vectors.parquet/000000.parquet', 'places.parquet/000000.parquet'} <= set(whole[0]) and not any(name.startswith('.') for name in whole[0])
    for n in (2, 4, 7, *range(10, 99, 4)):
        codes.append(ended(work(place, 'cut', die_at, n, n % 2, words=LARGE)))
        if codes[-1] == 0: break
    assert codes[-1] == 0 and set(codes) == {0, -signal.SIGKILL}, (place/'log').read_text()
    same(whole, place/'cut')
    print(f'cae discover --memory --sample: {survived(codes)}')
    assert len(codes) > 5

def test_the_disk_is_full_again_and_again(pictures):
    "At one file after another: an error in one line, nothing half-written, and in the end the same answers."
    place, log = pictures, pictures/'log'
    assert ended(work(place, 'quick', quick, words=LARGE)) == 0, log.read_text()
    for fails, n in enumerate((1, 2, 4, 6, 9, 12, 15, 99)):
        log.write_text('')
        code, said = ended(work(place, 'full', quick, n, words=LARGE)), log.read_text()
        if code == 0: break
        assert code == 1 and said.splitlines()[-1].startswith('cae: ') and os.strerror(errno.ENOSPC) in said.splitlines()[-1] and 'Traceback' not in said, f'file {n}: ended with {code}: {said}'
        assert not list((place/'full').rglob('*.part')), f'file {n}: half-written'
    assert code == 0 and fails > 5, f'ended with {code} after {fails} full disks: {said}'
    same(answers(place/'quick'), place/'full')

@pytest.fixture
def order(monkeypatch):
    "What is written to the disk and what is put in its place, in that order: names and how many bytes there are by then."
    done, sync, replace = [], os.fsync, os.replace
    def synced(fd):
        info = os.fstat(fd)
        done.append(('sync', os.path.basename(os.readlink(f'/proc/self/fd/{fd}')), None if stat.S_ISDIR(info.st_mode) else info.st_size))
        sync(fd)
    def replaced(old, new):
        done.append(('replace', os.path.basename(old), os.path.basename(new)))
        replace(old, new)
    monkeypatch.setattr(os, 'fsync', synced)
    monkeypatch.setattr(os, 'replace', replaced)
    return done

needs_proc = pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='needs /proc to tell what a number is the file of')

@needs_proc
def test_a_file_is_on_the_disk_before_it_gets_its_name(order, tmp_path):
    "Its bytes, then the name, then the folder: a power cut leaves the old file or the new one."
    parts = set()
    for data in (b'old', b'new'*10_000):
        write_whole(tmp_path/'a', data)
        part = order[0][1]
        parts.add(part)
        assert re.fullmatch(rf'\.a\.{os.getpid()}\d+\.part', part) and order == [('sync', part, len(data)), ('replace', part, 'a'), ('sync', tmp_path.name, None)]
        order.clear()
    assert len(parts) == 2                               # on a drive that several machines share another one's process may have the same number

@needs_proc
def test_pixels_are_on_the_disk_before_their_note(order, tmp_path):
    (tmp_path/'pictures').mkdir()
    for i, x in enumerate(mnist('test')[:5].pixels[:, 0]): Image.fromarray(x).save(tmp_path/'pictures'/f'{i}.png')
    store_images(tmp_path/'pictures', tmp_path/'stored', budget=4*784, size=28, channels=1)
    names = [(what, a if a == 'pixels.u8' else b if what == 'replace' else '', b if a == 'pixels.u8' else 0) for what, a, b in order if a == 'pixels.u8' or what == 'replace']
    assert names == [('replace', 'images.json', 0), ('sync', 'pixels.u8', 2*784), ('replace', '000000.json', 0), ('sync', 'pixels.u8', 4*784),
                     ('replace', '000001.json', 0), ('sync', 'pixels.u8', 5*784), ('replace', '000002.json', 0)]

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

def test_anew_can_be_cut_off_too(idx, tmp_path, monkeypatch, capsys):
    "An old run is at the place until the new one has its answers; and what the new one has done is kept."
    import cae.cli
    out, words = tmp_path/'out', ['discover', str(idx/'few-images-idx3-ubyte'), '--out', str(tmp_path/'out'), '--model', 'seed', '--epochs']
    assert cae.cli.main([*words, '1']) == 0
    old = (out/'report.json').read_text()
    with monkeypatch.context() as m:
        def cut(*args): raise KeyboardInterrupt
        m.setattr(cae.cli, '_finish', cut)
        with pytest.raises(KeyboardInterrupt): cae.cli.main([*words, '2', '--anew'])
    assert 'the same command, without --anew, goes on from there' in capsys.readouterr().err and (out/'report.json').read_text() == old
    assert cae.cli.main([*words, '1']) == 1 and 'holds a run that was cut off (epochs 2, not 1)' in capsys.readouterr().err
    assert cae.cli.main([*words, '2']) == 0 and 'epoch 1:' not in capsys.readouterr().out
    assert json.loads((out/'report.json').read_text())['epochs'] == 2 and not (out/'.unfinished').exists()

def test_anew_can_be_cut_off_while_it_reads(tmp_path, monkeypatch, capsys):
    "What is decoded by then is kept, though an old run with the same settings is at the place."
    import cae.cli, cae.large
    (tmp_path/'pictures').mkdir()
    for i, x in enumerate(mnist('test')[:30].pixels[:, 0]): Image.fromarray(x).save(tmp_path/'pictures'/f'{i:02}.png')
    words = ['discover', str(tmp_path/'pictures'), '--out', str(tmp_path/'out'), '--epochs', '1', '--memory', '.0001']
    assert cae.cli.main(words) == 0 and cae.cli.main(words) == 0 and 'has the answers already' in capsys.readouterr().out
    def cut(*args, **how): store_images(*args, **how); raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(cae.large, 'store_images', cut)
        with pytest.raises(KeyboardInterrupt): cae.cli.main([*words, '--anew'])
    assert 'the same command, without --anew, goes on from there' in capsys.readouterr().err
    with monkeypatch.context() as m:
        m.setattr('cae.large._decoded', None)                # nothing is decoded again
        assert cae.cli.main(words) == 0 and 'has the answers already' not in capsys.readouterr().out
    assert cae.cli.main(words) == 0 and 'has the answers already' in capsys.readouterr().out

def test_ctrl_c_over_another_run_promises_nothing(idx, tmp_path, monkeypatch, capsys):
    "What is kept there is not of these images, and the same command would be refused."
    import cae.cli
    other = tmp_path/'other-images-idx3-ubyte'
    write_idx(other, np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8))
    words = ['--out', str(tmp_path/'out'), '--model', 'seed', '--epochs', '2']
    def cut(*args, **how): raise KeyboardInterrupt
    for source, where, promised in ((idx/'few-images-idx3-ubyte', '_finish', True), (other, '_read', False)):
        with monkeypatch.context() as m:
            m.setattr(cae.cli, where, cut)
            with pytest.raises(KeyboardInterrupt): cae.cli.main(['discover', str(source), *words])
        assert ('the same command goes on from there' in capsys.readouterr().err) == promised
    assert json.loads((tmp_path/'out'/'.unfinished'/'run.json').read_text())['seconds']['training'] > 0

def test_labels_are_not_seen_while_it_is_taught(undisturbed, place):
    "The same digits with shuffled labels, in a run that teaches itself: nothing else is another, bit for bit."
    other = place/'shuffled'
    other.mkdir()
    (other/'three-images-idx3-ubyte').write_bytes((place/'three-images-idx3-ubyte').read_bytes())
    labels = np.frombuffer((place/'three-labels-idx1-ubyte').read_bytes()[8:], np.uint8)
    write_idx(other/'three-labels-idx1-ubyte', np.random.default_rng(0).permutation(labels))
    assert ended(work(other, 'answers')) == 0, (other/'log').read_text()
    files, report = answers(other/'answers')
    shown = {'card.csv', 'confusion.png', 'images.csv', 'map.html', 'report.html'}                # what has the labels in it
    assert sorted(files) == sorted(undisturbed[0])
    assert {name for name in files if files[name] != undisturbed[0][name]} <= shown
    assert report['refinement'] == undisturbed[1]['refinement'] and report['refinement'][0]['kept']
    assert {k for k in report if report[k] != undisturbed[1][k]} <= {'clustering_accuracy', 'map_knn_accuracy', 'nmi', 'settings'}
