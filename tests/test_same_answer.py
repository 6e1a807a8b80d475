"One seed: the same bits with the same number of threads; within stated bounds with another number, or on a GPU."
import hashlib, json, subprocess, sys, textwrap
import pytest, torch

script = textwrap.dedent('''
    import hashlib, json, sys
    import numpy as np, torch
    from cae.all import *
    threads, device = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(threads)
    set_seed(42, reproducible=True)
    images = mnist('test')[:1500]
    model = lsuv(ResNetAutoencoder(28, n_latent=32), to_float(as_torch(images.pixels[:256]), 1))
    learn = autoencoder_learner(dataloaders(images, bs=64, augment=True, denoise=False, device=device), model.to(device))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(3, 4e-3)
    latents = vectorize(learn, images)
    found = discover(latents, fit_map(latents, progress=False, n_jobs=threads, method='opentsne'))
    print(json.dumps(dict(bits=hashlib.sha256(latents.tobytes() + found.map.xy.tobytes()).hexdigest(), mse=learn.recorder.values[-1][1], knn=knn_accuracy(latents, images.labels),
                          map_knn=knn_accuracy(found.map.xy, images.labels), groups=found.n_clusters)))
''')

def run(threads, device='cpu'):
    res = subprocess.run([sys.executable, '-c', script, str(threads), device], capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    return json.loads(res.stdout.splitlines()[-1])

def agree(a, b):
    "The bounds that the README states."
    assert abs(a['mse']/b['mse'] - 1) < .05, (a, b)
    for k in ('knn', 'map_knn'): assert abs(a[k] - b[k]) < .015, (a, b)
    assert abs(a['groups'] - b['groups']) <= 1, (a, b)

@pytest.fixture(scope='module')
def two(): return run(2)

def test_the_same_threads_give_the_same_bits(two): assert run(2) == two

def test_another_number_of_threads_agrees(two):
    other = run(1)
    print(two, other, sep='\n')
    agree(two, other)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU here: that CPU and GPU agree is not looked at')
def test_the_gpu_agrees(two): agree(two, run(2, 'cuda'))
