"The command from end to end, in processes of its own, on a few hundred digits."
import csv, json, subprocess, sys
import numpy as np
from PIL import Image
from cae.latents import reconstruction_error, vectorize
from cae.learner import load
from conftest import cae, write_idx

FILES = {'card.csv', 'confusion.png', 'groups.png', 'images.csv', 'latents.npy', 'losses.png', 'map.html', 'map.png', 'model.json',
         'model.safetensors', 'neighbours.csv', 'neighbours.png', 'report.html', 'report.json', 'reproductions.png', 'tree.png', 'unsure.png'}

def scans(folder, images):
    "A folder with a picture for each image."
    folder.mkdir()
    for i, x in enumerate(images.pixels[:, 0]): Image.fromarray(x).save(folder/f'{i:02}.png')

def test_leaves_everything_and_nothing_else(run): assert {p.name for p in run[1].iterdir()} == FILES

def test_table_has_a_row_for_each_image_in_order(run, digits):
    rows = list(csv.DictReader((run[1]/'images.csv').open()))
    assert list(rows[0]) == 'name x y cluster confidence error label'.split()
    assert [r['name'] for r in rows] == [f'few/{i}' for i in range(300)]
    assert [int(r['label']) for r in rows] == digits.labels.tolist()
    assert {int(r['cluster']) for r in rows} - {-1} == set(range(json.loads((run[1]/'report.json').read_text())['groups']))
    assert all(0 <= float(r['confidence']) <= 1 for r in rows)

def test_the_kept_network_gives_the_kept_latents_and_errors(run, digits):
    model, kept = load(run[1]/'model'), np.load(run[1]/'latents.npy')
    assert kept.shape == (300, 64) and kept.dtype == np.float32
    assert np.allclose(vectorize(model, digits), kept, atol=1e-5)
    errors = [float(r['error']) for r in csv.DictReader((run[1]/'images.csv').open())]
    assert np.allclose(reconstruction_error(model, digits), errors, atol=1e-5)

def test_it_learnt_more_than_the_average(run, digits):
    report = json.loads((run[1]/'report.json').read_text())
    assert report['mse'] < .8*(digits.pixels/255).var(0).mean()
    assert report['map_knn_accuracy'] > .5
    assert report['clustering_accuracy'] > .4 and report['in_no_group'] < .05

def test_says_what_the_report_holds(run):
    res, out = run
    report = json.loads((out/'report.json').read_text())
    for figure in (f'{report["mse"]:.5f}', f'{report["valid_mse"]:.5f}', f'{report["clustering_accuracy"]:.1%}', f'{report["map_knn_accuracy"]:.1%}'):
        assert figure in res.stdout
    for step in ('reading', 'training', 'vectorizing', 'mapping', 'grouping', 'refining', 'sharpening', 'judging', 'neighbours'): assert step in res.stdout and step in report['seconds']

def test_the_decoder_is_sharpened(run):
    "If those held back are drawn better by it, and otherwise not."
    report = json.loads((run[1]/'report.json').read_text())
    res = report['sharpening']
    assert res['kept'] == (res['error'] < res['error_before']) and np.isclose(report['valid_mse'], min(res['error'], res['error_before']), rtol=1e-5)
    assert f'{res["error_before"]:.4f}' in run[0].stdout and f'{res["error"]:.4f}' in run[0].stdout

def test_a_sharpening_that_fails_costs_nothing_else(tmp_path, digits, monkeypatch, capsys):
    import cae.learner
    from cae.cli import main
    def broken(*args, **kwargs): raise FloatingPointError('the loss is nan')
    monkeypatch.setattr(cae.learner, 'sharpen', broken)
    monkeypatch.chdir(tmp_path)
    scans(tmp_path/'scans', digits[:30])
    assert main(['discover', 'scans', '--epochs', '1', '--out', 'out']) == 0
    assert 'not sharpened: the loss is nan' in capsys.readouterr().out
    assert json.loads((tmp_path/'out'/'report.json').read_text())['sharpening'] == dict(kept=False, why='the loss is nan')

def test_the_decoder_learns_from_all_when_the_map_is_of_a_sample(tmp_path, digits, monkeypatch):
    import cae.learner
    from cae.cli import main
    learnt, sharpen = [], cae.learner.sharpen
    def counted(learn, *args, **kwargs):
        learnt.append(len(learn.dls.train.dataset))
        return sharpen(learn, *args, **kwargs)
    monkeypatch.setattr(cae.learner, 'sharpen', counted)
    monkeypatch.chdir(tmp_path)
    scans(tmp_path/'scans', digits[:60])
    assert main(['discover', 'scans', '--epochs', '1', '--sample', '30', '--out', 'out', '--quiet']) == 0
    assert learnt == [54]

def test_pictures_show_something(run):
    for name in ('confusion', 'groups', 'losses', 'map', 'neighbours', 'reproductions', 'tree', 'unsure'):
        x = np.asarray(Image.open(run[1]/f'{name}.png').convert('L'))
        assert min(x.shape) > 150 and x.std() > 5, name

def test_the_card_judges_all_three_alike(run):
    rows = {r['measure']: r for r in csv.DictReader((run[1]/'card.csv').open())}
    assert {'error of reproductions', 'trustworthiness of the map', 'stability of the groups', 'linear probe', 'NMI of the groups'} < set(rows)
    for measure in ('10-NN accuracy', 'accuracy of the groups', 'silhouette of the groups'):
        assert all(-1 <= float(rows[measure][who]) <= 1 for who in ('network', 'PCA', 'pixels')), measure
    report = json.loads((run[1]/'report.json').read_text())
    assert np.isclose(float(rows['accuracy of the groups']['all images']), report['clustering_accuracy'])

def test_no_bars_in_a_file(run): assert '█' not in run[0].stdout

def test_labels_are_for_the_report_alone(run, idx, digits, tmp_path):
    "The same digits with shuffled labels: everything is the same, bit for bit, but what is said about labels."
    write_idx(tmp_path/'few-images-idx3-ubyte', digits.pixels[:, 0])
    write_idx(tmp_path/'few-labels-idx1-ubyte', np.random.default_rng(0).permutation(digits.labels))
    res = cae('discover', 'few-images-idx3-ubyte', '--out', 'answers', '--epochs', 30, cwd=tmp_path)
    assert res.returncode == 0, res.stderr
    out = tmp_path/'answers'
    for name in FILES - {'card.csv', 'confusion.png', 'images.csv', 'map.html', 'report.html', 'report.json'}:                # which show the labels
        assert (out/name).read_bytes() == (run[1]/name).read_bytes(), name
    a, b = ([{k: v for k, v in r.items() if k != 'label'} for r in csv.DictReader((d/'images.csv').open())] for d in (out, run[1]))
    assert a == b
    a, b = (json.loads((d/'report.json').read_text()) for d in (out, run[1]))
    assert {k for k in a if a[k] != b[k]} == {'clustering_accuracy', 'map_knn_accuracy', 'nmi', 'seconds', 'settings'}
    a, b = ({r.pop('measure'): r for r in csv.DictReader((d/'card.csv').open())} for d in (out, run[1]))
    assert {m for m in a if a[m] != b[m]} == {m for m in a if any(w in m for w in ('accuracy', 'probe', 'NMI', 'ARI'))}

def test_says_what_was_chosen(run):
    res, out = run
    report = json.loads((out/'report.json').read_text())
    assert (report['model'], report['n_latent'], report['size'], report['channels'], report['crop'], report['ink']) == ('resnet', 64, [28, 28], 1, None, False)
    assert (report['bs'], report['epochs'], report['augment']['rotate']) == (12, 30, 15)
    assert 'chosen: 28×28, 1 channel; network resnet, 64 numbers an image; 30 epochs in batches of 12' in res.stdout
    assert report['twice'] == 1/3 and ', a third twice\n' in res.stdout

def test_neighbours_are_the_nearest_latents(run):
    latents, rows = np.load(run[1]/'latents.npy'), list(csv.DictReader((run[1]/'neighbours.csv').open()))
    assert len(rows) == 300 and list(rows[0]) == ['name'] + [f'neighbour{k}' for k in range(1, 10)]
    far = np.linalg.norm(latents[:, None] - latents[None], axis=2) + np.diag(np.full(300, np.inf))
    for i in (0, 7, 299): assert [rows[i][f'neighbour{k}'] for k in (1, 2, 3)] == [rows[j]['name'] for j in far[i].argsort()[:3]]

def test_the_seed_keeps_to_the_story(idx):
    res = cae('discover', 'few-images-idx3-ubyte', '--model', 'seed', '--out', 'seeds', '--epochs', 2, cwd=idx)
    assert res.returncode == 0, res.stderr
    report = json.loads((idx/'seeds'/'report.json').read_text())
    assert (report['model'], report['n_latent'], report['augment'], report['refinement']) == ('seed', 128, None, [])
    assert 'refining' not in res.stdout and 'sharpening' not in res.stdout and not (idx/'seeds'/'card.csv').exists() and (idx/'seeds'/'groups.png').exists()
    assert load(idx/'seeds'/'model').n_latent == 128 and np.load(idx/'seeds'/'latents.npy').shape == (300, 128)

def test_a_folder_of_plots_needs_no_option(tmp_path):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from cae.bands import band_family, plot_bands
    (tmp_path/'plots').mkdir()
    for i, b in enumerate(band_family(30, size=16).bands):
        ax = plot_bands(b, ax=plt.subplots(figsize=(4, 3), dpi=80)[1])
        ax.figure.savefig(tmp_path/'plots'/f'{i:02}.png')
        plt.close(ax.figure)
    res = cae('discover', 'plots', '--epochs', 2, cwd=tmp_path)
    assert res.returncode == 0, res.stderr
    report = json.loads((tmp_path/'out'/'report.json').read_text())
    assert (report['crop'], report['ink'], report['channels'], report['images'], report['skipped']) == ('frame', True, 1, 30, 0)
    assert report['augment']['rotate'] == 0 and 'cropped to the frame, ink on black' in res.stdout
    assert max(report['size']) == 128

def test_colour_and_any_size(tmp_path):
    (tmp_path/'scans').mkdir()
    for i in range(20):
        spots = np.random.default_rng(i).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(spots).resize((61, 37)).save(tmp_path/'scans'/f'{i}.png')
    res = cae('discover', 'scans', '--epochs', 2, '--n-latent', 5, cwd=tmp_path)
    assert res.returncode == 0, res.stderr
    model = load(tmp_path/'out'/'model')
    assert (model.size, model.channels, model.n_latent) == ((37, 61), 3, 5)
    assert {p.name for p in (tmp_path/'out').iterdir()} == FILES - {'confusion.png'}
    assert not any('accuracy' in r['measure'] for r in csv.DictReader((tmp_path/'out'/'card.csv').open()))

def test_same_seed_same_bits(run, idx):
    for out, seed in (('again', 42), ('other', 43)):
        res = cae('discover', 'few-images-idx3-ubyte', '--out', out, '--epochs', 30, '--seed', seed, cwd=idx)
        assert res.returncode == 0, res.stderr
    for name in ('latents.npy', 'model.safetensors', 'images.csv', 'neighbours.csv', 'card.csv'):
        assert (idx/'again'/name).read_bytes() == (run[1]/name).read_bytes(), name
        assert (idx/'other'/name).read_bytes() != (run[1]/name).read_bytes(), name

def test_one_number_for_an_image_and_a_folder_called_dot(tmp_path, digits, monkeypatch):
    from cae.cli import main
    scans(tmp_path/'scans', digits[:30])
    monkeypatch.chdir(tmp_path/'scans')
    assert main(['discover', '.', '--out', '../out', '--n-latent', '1', '--epochs', '1', '--quiet']) == 0
    assert np.load(tmp_path/'out'/'latents.npy').shape == (30, 1)
    assert all('<title>scans</title>' in (tmp_path/'out'/page).read_text() for page in ('map.html', 'report.html'))

def test_a_folder_with_a_broken_picture(tmp_path, digits):
    (tmp_path/'scans'/'deep').mkdir(parents=True)
    for i, x in enumerate(digits.pixels[:40, 0]): Image.fromarray(x).resize((40 + i, 50)).save(tmp_path/'scans'/'deep'/f'{i:02}.png')
    (tmp_path/'scans'/'broken, "really".jpg').write_bytes(b'no')
    res = cae('discover', 'scans', '--epochs', 2, cwd=tmp_path)
    assert res.returncode == 0, res.stderr
    assert 'broken' in res.stderr and len(res.stderr.strip().splitlines()) == 1
    skipped = list(csv.DictReader((tmp_path/'out'/'skipped.csv').open()))
    assert [s['name'] for s in skipped] == ['broken, "really".jpg'] and skipped[0]['reason']
    assert len(list(csv.DictReader((tmp_path/'out'/'images.csv').open()))) == 40

def test_help_imports_nothing_heavy():
    code = "import sys; from cae.cli import main\ntry: main(['discover', '--help'])\nexcept SystemExit: pass\n" \
           "sys.exit(any(m in sys.modules for m in ('torch', 'fastai', 'numpy', 'matplotlib', 'pandas', 'sklearn')))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0

def test_as_many_lessons_as_are_asked_for(tmp_path, digits, monkeypatch, capsys):
    import cae.clusters
    from cae.cli import main
    asked, refine = [], cae.clusters.refine
    def counted(learn, images, found, rounds, **how):
        asked.append(rounds)
        return refine(learn, images, found, rounds, **how)
    monkeypatch.setattr(cae.clusters, 'refine', counted)
    monkeypatch.chdir(tmp_path)
    scans(tmp_path/'scans', digits[:30])
    def run(*words): return main(['discover', 'scans', '--epochs', '1', '--quiet', *words])
    assert [run('--out', f'out{i}', *words) for i, words in enumerate([['--lessons', '0'], ['--lessons', '3'], []])] == [0, 0, 0]
    assert asked == [3, 1]
    report = json.loads((tmp_path/'out0'/'report.json').read_text())
    assert report['refinement'] == [] and 'refining' not in report['seconds'] and 'judging' in report['seconds']
    assert run('--out', 'out0') and 'lessons 0, not by default' in capsys.readouterr().err
    assert run('--out', 'plain', '--model', 'seed', '--lessons', '2') and "'seed' is left plain" in capsys.readouterr().err
    assert run('--out', 'plain', '--model', 'seed', '--lessons', '0') == 0

def test_groups_are_joined_to_as_many_as_there_are(digits, tmp_path, capsys):
    "`--groups 2`: everything that is left speaks of two groups."
    from cae.cli import main
    scans(tmp_path/'scans', digits[:200])
    assert main(['discover', str(tmp_path/'scans'), '--epochs', '2', '--lessons', '0', '--groups', '2', '--out', str(tmp_path/'out')]) == 0
    report = json.loads((tmp_path/'out'/'report.json').read_text())
    assert report['groups'] == 2 < report['groups_before']
    assert f'groups found: {report["groups_before"]}, joined to 2;' in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path/'out'/'images.csv').open()))
    assert {int(r['cluster']) for r in rows} - {-1} == {0, 1}
    assert (tmp_path/'out'/'tree.png').exists()
    assert main(['place', str(tmp_path/'out'), str(tmp_path/'scans'), '--quiet']) == 0
    placed = list(csv.DictReader((tmp_path/'out'/'placed'/'placed.csv').open()))
    assert np.mean([a['cluster'] == b['cluster'] for a, b in zip(rows, placed)]) > .95
