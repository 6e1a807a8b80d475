"The memory that a stored collection needs does not grow with it."
import json, os, subprocess, sys, textwrap
import numpy as np
from PIL import Image
from cae import maps

watched = textwrap.dedent('''
    import json, re, sys, threading, time
    import numpy as np
    from cae.all import *
    from fastai.callback.core import Callback
    peak = 0
    def now(): return int(re.search(r'RssAnon:\\s+(\\d+)', open('/proc/self/status').read())[1])/1024      # not the pages of mapped files, which can be taken back
    def watch():
        global peak
        while True:
            peak = max(peak, now())
            time.sleep(.005)
    source, out, *more = sys.argv[1:]
''')

script = watched + textwrap.dedent('''
    def small(): return ResNetAutoencoder(64, 3, n_latent=16, widths=[8, 8, 8, 16])
    def learnt(images):
        learn = autoencoder_learner(dataloaders(images, bs=32), lsuv(small(), to_float(as_torch(np.array(images.pixels[:64])), 3)))
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 4e-3)
        return learn
    few = Images(np.random.default_rng(0).integers(0, 256, (600, 3, 64, 64), dtype=np.uint8))
    z = vectorize(learnt(few), few)                                       # what is loaded on first use is not counted
    found = discover(z, fit_map(z, progress=False))
    found.predict(z), found.map.transform(z)
    vectorize_to(small(), few, out + '/few')
    before = now()
    threading.Thread(target=watch, daemon=True).start()
    images = store_images(source, out + '/stored', budget=2**24)
    learn = learnt(images)
    vectors = vectorize_to(learn, images, out + '/vectors', part=1000, bs=64)
    found, sample = discover_sample(vectors, 600)
    places = place_to(found, sample, vectors, out + '/places')
    print(json.dumps(dict(images=len(images), pixels=images.pixels.nbytes/2**20, above=peak - before, placed=len(places), mse=learn.recorder.values[-1][1])))
''')

command = watched + textwrap.dedent('''
    import cae.cli, cae.clusters, cae.learner
    honest, lessons = report_card, refine
    cae.clusters.report_card = lambda *args, **kwargs: honest(*args, **kwargs, n=12)         # of the rest it takes as much for any collection
    cae.clusters.refine = lambda *args, **kwargs: lessons(*args, **kwargs | dict(epochs=1, rounds=1))
    cae.cli._network = lambda name, images, n_latent: ResNetAutoencoder(64, 3, n_latent=16, widths=[8, 8, 8, 16])
    cae.learner.keep_memory = lambda: False                               # which would keep what is freed
    before = now()
    threading.Thread(target=watch, daemon=True).start()
    code = cae.cli.main(['discover', source, '--out', out, '--epochs', '1', '--memory', '.02', '--sample', *more, '--quiet'])
    print(json.dumps(dict(code=code, above=peak - before)))
''')

def measured(script, *words, **env):
    "What the script says at its end."
    res = subprocess.run([sys.executable, '-c', script, *map(str, words)], capture_output=True, text=True, env=os.environ | env)
    assert res.returncode == 0, res.stderr
    return json.loads(res.stdout.splitlines()[-1])

def pictures(n, folder):
    folder.mkdir()
    y, x = np.mgrid[:64, :64]
    rng = np.random.default_rng(0)
    for i in range(n):
        (a, b), r, colour = rng.integers(8, 56, 2), rng.integers(4, 14), rng.integers(60, 255, 3)
        inside = (x - a)**2 + (y - b)**2 < r*r if i % 2 else (abs(x - a) < r) & (abs(y - b) < r)
        Image.fromarray((inside[..., None]*colour).astype(np.uint8)).save(folder/f'{i:05}.png', compress_level=1)

def test_peak_memory_stays_where_it_is(tmp_path):
    "Five times the pictures, 94 MB more of pixels, and the peak is the same but for 40 MB: storing, learning, vectorizing, mapping and placing."
    rows = []
    for n in (2000, 10_000):
        pictures(n, tmp_path/f'{n}')
        (tmp_path/f'out{n}').mkdir()
        rows.append(measured(script, tmp_path/f'{n}', tmp_path/f'out{n}'))
    print(*rows, sep='\n')
    assert [r['images'] for r in rows] == [2000, 10_000] and rows[1]["placed"] == 10
    assert rows[1]['pixels'] - rows[0]['pixels'] > 90
    assert rows[1]['above'] - rows[0]['above'] < 40 and rows[1]['above'] < rows[1]['pixels']

def test_a_larger_sample_takes_no_more(tmp_path):
    "The command with 5,000 pictures more to draw its map of: the peak grows by less than their pixels. (With the sample in memory, and parts of 65,536 to vectorize, it grew by twice as much.)"
    rows, at_once = [], dict(MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='65536')       # the C library gives back what is freed
    for n in (1500, 6500):
        pictures(n, tmp_path/f'{n}')
        rows.append(measured(command, tmp_path/f'{n}', tmp_path/f'out{n}', n - 300, **at_once))
        assert not (tmp_path/f'out{n}'/'.unfinished').exists()
    print(*rows, sep='\n')
    assert [r['code'] for r in rows] == [0, 0]
    assert rows[1]['above'] - rows[0]['above'] < 5000*3*64*64/2**20

def test_a_map_of_very_many_points_asks_for_fewer_neighbours(monkeypatch):
    "Above 100,000 points openTSNE looks at fifteen neighbours in its index, unless told otherwise; below, at thirty among all."
    asked = []
    class Asked:
        def __init__(self, **how): asked.append((how['perplexity'], how['neighbors']))
        def fit(self, latents): return np.zeros((len(latents), 2))
    monkeypatch.setattr(maps, 'TSNE', Asked)
    monkeypatch.setattr(maps, 'Map', lambda xy, middle: xy)
    x = np.random.default_rng(0).random((100_001, 2), dtype=np.float32)
    for latents, how in ((x[:-1], {}), (x, {}), (x, dict(perplexity=40))): maps.fit_map(latents, method='opentsne', progress=False, **how)
    assert asked == [(30, 'exact'), (15, 'auto'), (40, 'auto')]
