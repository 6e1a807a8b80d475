"The other commands end to end, what each says to whom, and how each ends."
import contextlib, csv, http.client, json, os, pty, re, shutil, signal, socket, subprocess, sys, time
import numpy as np, pytest
from PIL import Image
from cae.cli import place_images, vectorize_images
from conftest import cae, start

COMMANDS = 'discover', 'vectorize', 'place', 'name', 'explore'

@pytest.fixture(scope='module')
def new(digits, tmp_path_factory):
    "A folder with 20 digits of the run as pictures with odd names, and one that is none."
    d = tmp_path_factory.mktemp('new')
    (d/'scans').mkdir()
    for i, x in enumerate(digits.pixels[:20, 0]): Image.fromarray(x).save(d/'scans'/f'{i:02}, "a"\x1b[2J<b>\n=1+1.png')
    (d/'scans'/'broken.jpg').write_bytes(b'no')
    return d/'scans'

def rows(path): return list(csv.DictReader(path.open(newline='')))

def said_in_one_line(res, *what):
    assert res.returncode == 1 and not res.stdout.strip(), res.stdout
    assert len(res.stderr.splitlines()) == 1 and res.stderr.startswith('cae: ') and all(w in res.stderr for w in what), res.stderr

# vectorize

def test_vectors_are_those_of_the_run(run, idx, tmp_path):
    res = cae('vectorize', run[1]/'model', idx/'few-images-idx3-ubyte', '--out', 'deep/v.npy', cwd=tmp_path)
    assert res.returncode == 0 and not res.stderr, res.stderr
    x = np.load(tmp_path/'deep'/'v.npy')
    assert x.dtype == np.float32 and np.allclose(x, np.load(run[1]/'latents.npy'), atol=1e-5)
    assert [r['name'] for r in rows(tmp_path/'deep'/'v.csv')] == [f'few/{i}' for i in range(300)]
    assert {p.name for p in (tmp_path/'deep').iterdir()} == {'v.npy', 'v.csv'} and '300 vectors of 64 numbers' in res.stdout

@pytest.mark.parametrize('model', ['model.safetensors', 'model.json', ''])
def test_a_network_has_several_names(model, run, idx, tmp_path):
    report = vectorize_images(run[1]/model, idx/'few-images-idx3-ubyte', tmp_path/'v.npy')
    assert report['model'] == str(run[1]/'model') and np.allclose(np.load(tmp_path/'v.npy'), np.load(run[1]/'latents.npy'), atol=1e-5)

def test_one_table_with_names_and_numbers_and_whom_it_lacks(run, new, tmp_path):
    res = cae('vectorize', run[1], new, '--out', 'v.csv', '--json', cwd=tmp_path)
    report = json.loads(res.stdout)
    assert res.returncode == 0 and (report['images'], report['skipped'], report['n_latent']) == (20, 1, 64)
    table = rows(tmp_path/'v.csv')
    assert [r['name'] for r in table] == sorted(p.name for p in new.glob('*.png'))
    x = np.array([[float(r[f'z{i}']) for i in range(64)] for r in table], np.float32)
    assert np.allclose(x, np.load(run[1]/'latents.npy')[:20], atol=1e-5)
    assert [r['name'] for r in rows(tmp_path/'v-skipped.csv')] == ['broken.jpg']
    assert 'vectorizing' in res.stderr and 'broken.jpg' in res.stderr

def test_what_cannot_be_vectorized(run, idx, tmp_path):
    few = idx/'few-images-idx3-ubyte'
    (tmp_path/'large').mkdir()
    np.savetxt(tmp_path/'large.csv', np.zeros((3, 16), int), delimiter=',', fmt='%d', comments='', header=','.join(f'pixel{i}' for i in range(16)))
    (tmp_path/'mine.csv').write_text('mine\n')
    np.save(tmp_path/'theirs.npy', np.arange(3))
    for words, says in (((run[1]/'modell', few), 'modell.json: there is no such file'), ((run[1], 'nowhere'), 'nowhere: there is no such file or folder'),
                        ((run[1], few, '--out', 'v.txt'), '.npy or .csv'), ((run[1], few, '--out', 'mine.npy'), 'mine.csv: is another table'),
                        ((run[1], few, '--out', 'theirs.npy'), 'theirs.npy: is not a file that vectorize has left'),
                        ((run[1], 'mine.csv', '--out', 'mine.npy'), 'would be written over mine.csv'), ((run[1], 'large.csv', '--out', 'new/v.npy'), 'takes images of 28×28, these are 4×4')):
        res = cae('vectorize', *words, cwd=tmp_path)
        assert res.returncode == 1 and len(res.stderr.splitlines()) == 1 and says in res.stderr, res.stderr
    assert {p.name for p in tmp_path.iterdir()} == {'large', 'large.csv', 'mine.csv', 'theirs.npy'} and (tmp_path/'mine.csv').read_text() == 'mine\n'
    assert np.load(tmp_path/'theirs.npy').tolist() == [0, 1, 2]

def test_a_terminal_with_few_letters(run, idx, tmp_path):
    p = start('vectorize', run[1], idx/'few-images-idx3-ubyte', '--out', 'v.npy', cwd=tmp_path, env=os.environ | dict(PYTHONIOENCODING='ascii'))
    out, err = p.communicate()
    assert p.returncode == 0 and not err and '300 vectors' in out and out.isascii(), err

# place

def test_known_images_are_placed_where_they_were(run, new, tmp_path):
    res = cae('place', run[1], new, '--out', 'placed', cwd=tmp_path)
    assert res.returncode == 0 and len(res.stderr.splitlines()) == 1, res.stderr
    assert {p.name for p in (tmp_path/'placed').iterdir()} == {'placed.csv', 'placed.png', 'placed-skipped.csv'}
    placed, known = rows(tmp_path/'placed'/'placed.csv'), rows(run[1]/'images.csv')
    assert list(placed[0]) == 'name x y cluster confidence error nearest label'.split()
    assert [r['nearest'] for r in placed] == [f'few/{i}' for i in range(20)]
    assert [float(r['confidence']) == 0 for r in placed] == [r['cluster'] == '-1' for r in placed]
    a, b = (np.array([[float(r['x']), float(r['y'])] for r in t]) for t in (placed, known))
    assert np.median(np.linalg.norm(a - b[:20], axis=1)) < .1*np.ptp(b)
    assert np.mean([p['cluster'] == k['cluster'] for p, k in zip(placed, known)]) > .7
    assert np.allclose([float(r['error']) for r in placed], [float(r['error']) for r in known[:20]], atol=1e-5)
    x = np.asarray(Image.open(tmp_path/'placed'/'placed.png').convert('RGB')).astype(int)
    assert min(x.shape[:2]) > 400 and np.ptp(x, axis=2).max() > 100
    assert '\x1b' not in res.stderr + res.stdout and 'broken.jpg' in res.stderr and '20 new images' in res.stdout

def test_a_moved_map_stays_where_it_is(run, idx, tmp_path):
    shutil.copytree(run[1], tmp_path/'moved')
    table = rows(run[1]/'images.csv')
    with (tmp_path/'moved'/'images.csv').open('w', newline='') as f:
        w = csv.DictWriter(f, table[0]); w.writeheader()
        w.writerows(r | dict(x=float(r['x']) + 1000) for r in table)
    for d in (run[1], tmp_path/'moved'):
        place_images(d, idx/'few-images-idx3-ubyte', tmp_path/d.name/'placed')
    a, b = (np.array([float(r['x']) for r in rows(tmp_path/d/'placed'/'placed.csv')]) for d in (run[1].name, 'moved'))
    assert np.allclose(a + 1000, b, atol=1e-2)

def test_a_damaged_run_is_named(run, idx, tmp_path):
    few = idx/'few-images-idx3-ubyte'
    said_in_one_line(cae('place', 'nowhere', few, cwd=tmp_path), 'nowhere: there is no such folder')
    (tmp_path/'d').mkdir()
    for name in ('model.json', 'model.safetensors', 'images.csv', 'report.json'): (tmp_path/'d'/name).write_bytes((run[1]/name).read_bytes())
    said_in_one_line(cae('place', 'd', few, cwd=tmp_path), 'd: has no latents.npy')
    for name, data in {'latents.npy': b'\x80\x04K*.', 'images.csv': b'name,x\na,1\n', 'report.json': b'[]', 'model.json': b'{"format": "cae model", "architecture": "Autoencoder"}'}.items():
        good = (run[1]/name).read_bytes()
        (tmp_path/'d'/'latents.npy').write_bytes((run[1]/'latents.npy').read_bytes())
        (tmp_path/'d'/name).write_bytes(data)
        with pytest.raises(ValueError, match=name): place_images(tmp_path/'d', few)
        (tmp_path/'d'/name).write_bytes(good)
    latents = np.load(run[1]/'latents.npy')
    latents[7, 3] = np.nan
    np.save(tmp_path/'d'/'latents.npy', latents)
    said_in_one_line(cae('place', 'd', few, '--quiet', cwd=tmp_path), 'latents.npy: some of the latents have NaN')
    assert not (tmp_path/'d'/'placed').exists()

# name

@pytest.fixture
def answers(run, tmp_path):
    "The folder of the run, to write into."
    return shutil.copytree(run[1], tmp_path/'answers')

def test_named_groups_name_images_and_places(run, answers, new, tmp_path):
    n = json.loads((answers/'report.json').read_text())['groups']
    odd = '=1+1, "a"\x1b[2J</script>'
    res = cae('name', answers, f'0={odd}', '1= twos ', cwd=tmp_path)
    assert (res.returncode, res.stderr) == (0, '') and len(res.stdout.splitlines()) == n + 2 and '\x1b' not in res.stdout
    assert res.stdout.count('no name yet') == n - 2 and ': twos\n' in res.stdout
    labels = ['' if r['cluster'] == '-1' else {'0': odd, '1': 'twos'}.get(r['cluster'], f'group {r["cluster"]}') for r in rows(run[1]/'images.csv')]
    assert [r['label'] for r in rows(answers/'named.csv')] == labels
    report = json.loads(cae('name', answers, '0=ones', '1=', '--json', cwd=tmp_path).stdout)
    assert [g['name'] for g in report['groups'][:2]] == ['ones', ''] and sum(g['images'] for g in report['groups']) == sum(l != '' for l in labels)
    assert cae('place', answers, new, '--quiet', cwd=tmp_path).returncode == 0
    placed = rows(answers/'placed'/'placed.csv')
    assert list(placed[0])[-1] == 'called' and all(r['called'] == ('ones' if r['cluster'] == '0' else f'group {r["cluster"]}' if r['cluster'] != '-1' else '') for r in placed)

def test_a_submission_for_kaggle(answers, new, idx, tmp_path):
    few, n = idx/'few-images-idx3-ubyte', json.loads((answers/'report.json').read_text())['groups']
    place = 'place', answers, few, '--submission', '--quiet'
    said_in_one_line(cae(*place, cwd=tmp_path), "the digits 0 to 9 as labels, not 'group 0'; say with cae name which digit")
    assert not (answers/'placed').exists()
    assert cae('name', answers, *(f'{g}={g % 10}' for g in range(n)), '--quiet', cwd=tmp_path).returncode == 0
    assert cae(*place, cwd=tmp_path).returncode == 0
    table, placed = rows(answers/'placed'/'submission.csv'), rows(answers/'placed'/'placed.csv')
    assert list(table[0]) == ['ImageId', 'Label'] and [r['ImageId'] for r in table] == [str(i) for i in range(1, 301)]
    assert {r['Label'] for r in table} <= set('0123456789')
    assert np.mean([r['Label'] == p['called'] for r, p in zip(table, placed) if p['called']]) > .9
    res = cae('place', answers, new, '--submission', '--quiet', cwd=tmp_path)
    assert res.returncode == 1 and '1 file could not be read, so the others would get wrong numbers' in res.stderr.splitlines()[-1]
    assert len(rows(answers/'placed'/'submission.csv')) == 300
    assert cae('place', answers, new, '--quiet', cwd=tmp_path).returncode == 0
    assert not (answers/'placed'/'submission.csv').exists() and rows(answers/'placed'/'submission-before.csv') == table           # it was for other images
    assert rows(answers/'placed'/'placed-before.csv') == placed

def test_names_go_with_the_answers_that_they_are_for(answers, idx):
    assert cae('name', answers, '0=ones', '--quiet', cwd=idx).returncode == 0
    again = 'discover', 'few-images-idx3-ubyte', '--out', answers, '--epochs', 30
    assert cae(*again, cwd=idx).returncode == 0 and (answers/'names.csv').exists()                  # there was nothing to do
    assert cae('place', answers, 'few-images-idx3-ubyte', '--quiet', cwd=idx).returncode == 0
    placed = (answers/'placed'/'placed.csv').read_bytes()
    res = cae(*again[:-1], 1, '--anew', cwd=idx)
    assert res.returncode == 0 and 'names.csv is names-before.csv now' in res.stdout and 'placed is placed-before now' in res.stdout
    assert not (answers/'placed').exists() and (answers/'placed-before'/'placed.csv').read_bytes() == placed
    assert not (answers/'names.csv').exists() and not (answers/'named.csv').exists() and rows(answers/'names-before.csv')[0]['name'] == 'ones'       # other groups now

def test_what_cannot_be_named(answers, tmp_path):
    before = {p.name: p.read_bytes() for p in answers.iterdir()}
    for words, says in ((('nowhere', '0=a'), 'nowhere: there is no such folder'), ((answers, '99=a'), 'there is no group 99; the groups are 0 to'), ((answers, '0=a', '0=b'), 'group 0 is given two names')):
        said_in_one_line(cae('name', *words, cwd=tmp_path), says)
    for name, text in {'names.csv': b'group,name\nzero,a\n', 'named.csv': b'mine\n', 'map.html': b'\xff<h1>'}.items():
        (answers/name).write_bytes(text)
        said_in_one_line(cae('name', answers, '0=a', cwd=tmp_path), name)
        assert (answers/name).read_bytes() == text
        (answers/name).write_bytes(before[name]) if name in before else (answers/name).unlink()
    assert {p.name: p.read_bytes() for p in answers.iterdir()} == before

def test_images_of_another_sort_are_noticed(run, new, tmp_path):
    (tmp_path/'noise').mkdir()
    for i in range(12): Image.fromarray(np.random.default_rng(i).integers(0, 256, (28, 28), np.uint8)).save(tmp_path/'noise'/f'{i}.png')
    for i in range(3): (tmp_path/'noise'/f'{i}.heic').write_bytes(b'a picture from a telephone')
    (tmp_path/'noise'/'README').write_text('no picture')
    res = cae('place', run[1], 'noise', '--out', 'placed', cwd=tmp_path)
    assert res.returncode == 0 and 'are they of the same sort?' in res.stdout, res.stdout
    assert 'not taken for pictures: 3 .heic, 1 without an ending' in res.stdout
    res = cae('place', run[1], new, '--out', 'those', cwd=tmp_path)
    assert res.returncode == 0 and 'same sort' not in res.stdout and 'not taken' not in res.stdout
    for f in (tmp_path/'noise').glob('*.png'): f.unlink()
    assert 'no image in this folder; its files: 3 .heic, 1 without an ending' in cae('discover', 'noise', cwd=tmp_path).stderr

def test_labels_need_more_than_one_folder(new, tmp_path):
    res = cae('discover', new, '--labels', '--out', 'out', cwd=tmp_path)
    assert res.returncode == 1 and 'which tells none of them apart' in res.stderr.splitlines()[-1] and not (tmp_path/'out').exists()

def test_sixteen_bits_are_read_as_they_were_learnt(tmp_path):
    "Also where a dark picture comes alone, which for itself would be taken for one of twelve bits."
    for name in ('scans', 'one'): (tmp_path/name).mkdir()
    for i in range(20):
        x = np.random.default_rng(i).random((16, 16))*(3000 if i == 7 else 60_000)
        Image.fromarray(x.astype(np.uint16)).save(tmp_path/'scans'/f'{i:02}.tif')
    shutil.copy(tmp_path/'scans'/'07.tif', tmp_path/'one')
    assert cae('discover', 'scans', '--epochs', 1, '--out', 'out', '--quiet', cwd=tmp_path).returncode == 0
    assert cae('vectorize', 'out', 'one', '--out', 'one.npy', '--quiet', cwd=tmp_path).returncode == 0
    assert np.allclose(np.load(tmp_path/'one.npy')[0], np.load(tmp_path/'out'/'latents.npy')[7], atol=1e-5)

# explore

@pytest.fixture
def page(tmp_path):
    "A folder with a page and things that are nobody's business."
    d = tmp_path/'a folder'
    (d/'sub').mkdir(parents=True)
    (d/'map.html').write_text('<h1>The map</h1>')
    (d/'sub'/'index.html').write_text('in the folder')
    (d/'<img src=x>.csv').write_text('odd')
    (d/'.part').write_text('secret')
    (tmp_path/'secret').write_text('secret')
    (tmp_path/'a folder too').mkdir()
    (tmp_path/'a folder too'/'secret').write_text('secret')
    (d/'link').symlink_to(tmp_path/'secret')
    (d/'linked').symlink_to(tmp_path)
    (d/'shown').symlink_to('.part')
    (d/'inside').symlink_to('map.html')
    os.mkfifo(d/'pipe')
    return d

@pytest.fixture
def explored(page):
    "The port on which `cae explore` shows the folder, and its process."
    p = start('explore', 'a folder', '--json', '--no-browser', '--port', 0, cwd=page.parent)
    try: yield int(re.search(r':(\d+)/$', json.loads(p.stdout.readline())['address'])[1]), p
    finally:
        if p.poll() is None: p.kill()
        p.communicate()

def ask(port, path, host='localhost', method='GET'):
    "Status, headers and body of an answer to exactly this request."
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
    c.putrequest(method, path, skip_host=True)
    if host is not None: c.putheader('Host', host)
    c.endheaders()
    r = c.getresponse()
    return r.status, r.headers, r.read().decode()

def test_the_page_and_nothing_that_is_not_in_the_folder(explored):
    port, p = explored
    status, headers, body = ask(port, '/')
    assert (status, body) == (200, '<h1>The map</h1>') and "default-src 'self'" in headers['Content-Security-Policy']
    for path in ('/map.html', '/?a=b', '/inside', '/%3Cimg%20src=x%3E.csv', '/sub/index.html', '/sub/../map.html'): assert ask(port, path)[0] == 200, path
    for path in ('/../secret', '/%2e%2e/secret', '/..%2fsecret', '/%2e%2e%2fsecret', '//../secret', '/sub/../../secret', '/../a%20folder%20too/secret', '/link', '/linked/secret',
                 '/.part', '/shown', '/sub', '/sub/', '/pipe', '/%00', '/' + 'a'*5000, '/nothing', '/map.html/'):
        status, _, body = ask(port, path)
        assert status in (404, 414) and 'secret' not in body, path
    assert ask(port, '/', method='POST')[0] == 501 and ask(port, '/', method='HEAD')[2] == ''
    assert p.poll() is None

def test_only_for_this_computer(explored):
    port, p = explored
    for host in ('example.org', 'localhost.example.org', '127.0.0.1.example.org:80', 'evil@localhost', 'localhost:80:80', '', None):
        assert ask(port, '/', host)[0] == 403, host
    for host in ('127.0.0.1', f'localhost:{port}', 'LOCALHOST:9000'): assert ask(port, '/', host)[0] == 200, host
    with open('/proc/net/tcp') as f: listening = [l.split()[1] for l in f if l.split()[3] == '0A' and l.split()[1].endswith(f':{port:04X}')]
    assert listening == [f'0100007F:{port:04X}']                 # 127.0.0.1 and no other address
    other = socket.gethostbyname(socket.gethostname())
    if not other.startswith('127.0.0.1'):
        with pytest.raises(OSError): socket.create_connection((other, port), timeout=5)

def test_a_reader_who_leaves_is_no_matter(explored):
    port, p = explored
    for _ in range(3):
        with socket.create_connection(('127.0.0.1', port)) as s: s.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    with socket.create_connection(('127.0.0.1', port)) as s:
        s.sendall(b'\xff\x00nonsense\r\n\r\n')
        s.recv(100)
    assert ask(port, '/')[0] == 200
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert (p.returncode, out, err) == (0, '', 'cae: stopped\n')

def test_sigterm_ends_it_with_143(explored):
    explored[1].send_signal(signal.SIGTERM)
    out, err = explored[1].communicate(timeout=20)
    assert (explored[1].returncode, out, err) == (143, '', 'cae: stopped\n')

def test_it_opens_a_browser_and_minds_a_port_that_is_taken(page):
    show = f'{sys.executable} -c "import sys; open(\'opened\', \'w\').write(sys.argv[1])" %s'
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        said_in_one_line(cae('explore', page, '--port', s.getsockname()[1], cwd=page.parent), 'choose another with --port')
    p = start('explore', page, cwd=page.parent, env=os.environ | dict(BROWSER=show))
    address = re.search('http://127.0.0.1:[0-9]+/', p.stdout.readline())[0]
    for _ in range(100):
        if (page.parent/'opened').exists() and (page.parent/'opened').read_text(): break
        time.sleep(.1)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=20)
    assert (page.parent/'opened').read_text() == address

def test_no_page_is_one_line(run, tmp_path):
    said_in_one_line(cae('explore', tmp_path, cwd=tmp_path), 'has no map.html')
    said_in_one_line(cae('explore', 'nowhere', cwd=tmp_path), 'nowhere')

# what all have in common

@pytest.mark.parametrize('command', ['vectorize', 'place'])
def test_quiet_says_nothing(command, run, idx, tmp_path):
    res = cae(command, run[1], idx/'few-images-idx3-ubyte', '--out', 'v.npy' if command == 'vectorize' else 'placed', '--quiet', cwd=tmp_path)
    assert (res.returncode, res.stdout, res.stderr) == (0, '', '')

@pytest.mark.parametrize('command', COMMANDS)
def test_help_shows_an_example_and_the_codes(command, tmp_path):
    res = cae(command, '--help', cwd=tmp_path)
    assert res.returncode == 0 and f'  cae {command} ' in res.stdout and 'exit codes: 0' in res.stdout
    assert all(o in res.stdout for o in ('--quiet', '--json')) and max(map(len, res.stdout.splitlines())) < 132

@pytest.mark.parametrize('words', [['vectorize'], ['place', 'out'], ['name', 'out', 'ones'], ['explore'], ['explore', '.', '--port', '99999'], ['place', 'a', 'b', '--jsonn']])
def test_wrong_words_end_with_two(words, tmp_path):
    res = cae(*words, cwd=tmp_path)
    assert res.returncode == 2 and not res.stdout and 'Traceback' not in res.stderr

def begun(p):
    "Wait until the command listens to signals: until SIGTERM is caught, which Python does not do by itself."
    caught = 0
    while not caught >> 14 & 1: caught = int(re.search(r'SigCgt:\s*(\w+)', open(f'/proc/{p.pid}/status').read())[1], 16)
    return p

@pytest.mark.parametrize('after', [0, .3, 1.5, 4, 'training'])
def test_ctrl_c_leaves_one_line_and_no_file(after, idx, tmp_path):
    p = begun(start('discover', idx/'few-images-idx3-ubyte', '--epochs', 20_000, cwd=tmp_path))
    if after == 'training':
        while 'training' not in p.stdout.readline(): pass
        time.sleep(.5)
    else: time.sleep(after)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    kept = after in (4, 'training') and (tmp_path/'out'/'.unfinished'/'training.safetensors').exists()        # by a fast machine, or by one that was busy
    assert (p.returncode, err) == (130, 'cae: what is finished is kept in out; the same command goes on from there\n'*kept + 'cae: stopped\n')
    assert kept or list(tmp_path.iterdir()) == []

def test_threads_that_wait_soon_sleep(run, idx, tmp_path):
    "GNU's OpenMP says itself how many times they turn in a circle first."
    env = {k: v for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')} | dict(OMP_DISPLAY_ENV='VERBOSE')
    p = start('vectorize', run[1], idx/'few-images-idx3-ubyte', '--out', 'v.npy', '--quiet', cwd=tmp_path, env=env)
    spins = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", p.communicate(timeout=120)[1])
    assert spins and set(spins) == {'10000'} and p.returncode == 0

def test_what_is_ignored_stays_ignored(run, idx, tmp_path):
    "A shell has told the process not to listen to Ctrl-C, as `nohup` does."
    p = begun(start('vectorize', run[1], idx/'few-images-idx3-ubyte', '--out', 'v.npy', '--quiet', cwd=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)))
    p.send_signal(signal.SIGINT)
    assert (p.communicate(timeout=120), p.returncode) == (('', ''), 0)

def test_sigterm_stops_it_too(idx, tmp_path):
    p = begun(start('discover', idx/'few-images-idx3-ubyte', '--epochs', 20_000, '--quiet', cwd=tmp_path))
    time.sleep(2)
    p.terminate()
    assert (p.communicate(timeout=60), p.returncode) == (('', 'cae: stopped\n'), 143)

def test_json_is_all_there_is_on_standard_output(run, idx, tmp_path):
    res = cae('discover', idx/'few-images-idx3-ubyte', '--model', 'seed', '--epochs', 2, '--json', cwd=tmp_path)
    assert res.returncode == 0 and 'training' in res.stderr and len(res.stdout.splitlines()) == 1
    assert json.loads(res.stdout) == json.loads((tmp_path/'out'/'report.json').read_text())

def test_nobody_reads(run, idx, tmp_path):
    "A pipe whose reader has gone."
    for words in (['--help'], ['vectorize', run[1], idx/'few-images-idx3-ubyte', '--out', 'v.npy']):
        p = start(*words, cwd=tmp_path)
        p.stdout.close()
        assert p.stderr.read() == '' and p.wait() in ((141,) if len(words) > 1 else (0, 141))    # argparse keeps some of it to itself

LEFT = '[█─]{30} +[0-9]+%, [0-9:]+ left'

def watched(*words, cwd, **kwargs):
    "What a person at a terminal sees until there is a bar with the time left, and then, after Ctrl-C; and the process."
    ours, theirs = pty.openpty()
    p = start(*words, cwd=cwd, stderr=theirs, **dict(stdout=theirs) | kwargs)
    os.close(theirs)
    seen, stopped = b'', False
    with contextlib.suppress(OSError):                           # which is the end, on Linux
        while part := os.read(ours, 4096):
            seen += part
            if not stopped and re.search(LEFT, seen.decode(errors='ignore')): stopped = p.send_signal(signal.SIGINT) is None
    os.close(ours)
    return seen.decode(), p

@pytest.mark.parametrize('json', [False, True])
def test_a_bar_with_the_time_left_for_whoever_watches(json, idx, tmp_path):
    "With --json it is on the error stream."
    how = (['--json'], dict(stdout=subprocess.PIPE)) if json else ([], {})
    seen, p = watched('discover', idx/'few-images-idx3-ubyte', '--epochs', 20_000, *how[0], cwd=tmp_path, **how[1])
    assert p.wait() == 130 and re.search(LEFT, seen)
    assert [p.name for p in tmp_path.glob('out/*')] in ([], ['.unfinished'])            # what is finished is kept, and no more
    *lines, last = [l for l in re.split('[\r\n]', seen) if l.strip()]
    assert last == 'cae: stopped' and max(map(len, lines)) < 161
    if json: assert p.stdout.read() == ''
