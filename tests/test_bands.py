"Band structures in every form come out the same, damaged ones get one line that names the file, and the physics holds."
import gzip, json
import numpy as np, pytest
from cae.bands import Bands, band_family, bands_images, bonds, draw_bands, hamiltonian, is_flat, lattice_bands, lattices, read_bands

def path(n=12):
    "Fractional k-points Γ–X, X–M with the corner written twice, then after a jump R–Γ."
    s = np.linspace(0, .5, n)
    return np.concatenate([[[x, 0, 0] for x in s], [[.5, x, 0] for x in s], [[.5 - x]*3 for x in s]])

def energies(k, t=1.): return np.stack([-2*t*np.cos(2*np.pi*k).sum(1), np.full(len(k), 3.25)])

def as_pymatgen(spins=1, **changes):
    k = path()
    d = {'@module': 'pymatgen.electronic_structure.bandstructure', '@class': 'BandStructureSymmLine', 'efermi': 1.5,
         'lattice_rec': {'matrix': [[1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]]}, 'kpoints': k.tolist(), 'projections': {},
         'bands': {s: (energies(k, t) + 1.5).tolist() for s, t in zip(('1', '-1')[:spins], (1., .8))}, 'is_metal': True,
         'labels_dict': {'\\Gamma': [0, 0, 0], 'X': [.5, 0, 0], 'M': [.5, .5, 0], 'R': [.5, .5, .5]},
         'branches': [{'start_index': a, 'end_index': a + 11, 'name': ''} for a in (0, 12, 24)]}
    return {**d, **changes}

def as_eigenval(spins=1, filled=True, mesh=0):
    "The text of an EIGENVAL; `mesh` k-points with a weight come first, as in a hybrid calculation."
    k = np.concatenate([np.full((mesh, 3), .25), path()])
    e = np.stack([energies(k, t) for t in (1., .8)[:spins]])
    lines = [f'    2    2    1    {spins}', '  0.1E+02 0.3E-09 0.3E-09 0.3E-09 0.5E-15', '  1.000000000000000E-004', '  CAR ', ' made up', f'      4 {len(k):6d}      2']
    for i, x in enumerate(k):
        lines += [' ', ''.join(f'{v:15.7E}' for v in (*x, float(i < mesh or not mesh)))]
        lines += [f'{b + 1:5d} ' + ''.join(f'{v:14.6f}' for v in e[:, b, i]) + ('  1.000000'*spins if filled else '') for b in range(2)]
    return '\n'.join(lines) + '\n'

def one_line(f, *says):
    with pytest.raises(ValueError) as e: f()
    assert '\n' not in str(e.value)
    for s in says: assert s in str(e.value)

@pytest.mark.parametrize('spins', [1, 2])
def test_every_form_gives_the_same_energies(tmp_path, spins):
    want = np.concatenate([energies(path(), t) for t in (1., .8)[:spins]])
    d = as_pymatgen(spins)
    (tmp_path/'a.json').write_text(json.dumps(d))
    (tmp_path/'nested.json').write_text(json.dumps({'material_id': '2dm-1', 'bandstructure': d, 'elements': ['C']}))
    (tmp_path/'list.json').write_text(json.dumps([{'data': d}]))
    (tmp_path/'a.json.gz').write_bytes(gzip.compress(json.dumps(d).encode()))
    for name in ('a.json', 'nested.json', 'list.json', 'a.json.gz'): np.testing.assert_allclose(read_bands(tmp_path/name).energies, want)
    for i, (filled, mesh) in enumerate([(True, 0), (False, 0), (True, 4)]):
        (tmp_path/f'EIGENVAL{i}').write_text(as_eigenval(spins, filled, mesh))
        np.testing.assert_allclose(read_bands(tmp_path/f'EIGENVAL{i}', efermi=0).energies, want, atol=1e-6)

@pytest.mark.parametrize('branches', [None, 'right', 'every', 'beyond'])
def test_a_jump_has_no_length_whatever_the_branches_say(branches):
    d = as_pymatgen()
    if branches is None: del d['branches']
    if branches == 'every': d['branches'] = [{'start_index': i, 'end_index': i} for i in range(36)]
    if branches == 'beyond': d['branches'] = [{'start_index': i} for i in (-4, 0, 99)]
    b = read_bands(d)
    assert np.isclose(b.distance[-1], 1.5*(.5 + .5 + .75**.5))
    assert [l for _, l in b.ticks] == ['Γ', 'X', 'M|R', 'Γ']

def test_without_k_points_or_a_lattice():
    d = as_pymatgen()
    del d['lattice_rec']
    assert np.isclose(read_bands(d).distance[-1], .5 + .5 + .75**.5)
    del d['kpoints']
    assert read_bands(d).distance[-1] == 35

CASES = {
    'no Fermi level':      ({'efermi': None}, 'no Fermi level'),
    'NaN Fermi level':     ({'efermi': float('nan')}, 'Fermi level is nan'),
    'text Fermi level':    ({'efermi': 'high'}, 'high'),
    'NaN energy':          ({'bands': {'1': [[1.]*35 + [float('nan')]]}}, '1 of 36 energies'),
    'infinite energy':     ({'bands': {'1': [[float('inf')] + [1.]*35]}}, '1 of 36 energies'),
    'empty energy':        ({'bands': {'1': [[None] + [1.]*35]}}, '1 of 36 energies'),
    'ragged bands':        ({'bands': {'1': [[1.]*36, [1.]*30]}}, 'rows of numbers of one length'),
    'spins differ':        ({'bands': {'1': [[1.]*36], '-1': [[1.]*30]}}, 'rows of numbers of one length'),
    'words for energies':  ({'bands': {'1': [['low']*36]}}, 'rows of numbers'),
    'one flat list':       ({'bands': {'1': [1.]*36}}, '(n_bands, n_k)'),
    'no bands':            ({'bands': {}}, 'rows of numbers'),
    'no band in them':     ({'bands': {'1': []}}, '(n_bands, n_k)'),
    'more k-points':       ({'kpoints': path(13).tolist()}, '39 k-points need 39 energies in every band, not 36'),
    'one k-point':         ({'kpoints': [[0, 0, 0]], 'bands': {'1': [[1.]]}}, 'at least 2 k-points'),
    'k-points of 2':       ({'kpoints': path()[:, :2].tolist()}, ''),
    'k-points of words':   ({'kpoints': ['Γ']*36}, ''),
    'no matrix':           ({'lattice_rec': {'a': 1}}, 'matrix'),
    'strange branches':    ({'branches': [1, 2]}, 'not as pymatgen writes it'),
    'strange labels':      ({'labels_dict': ['X']}, 'not as pymatgen writes it'),
    'nothing of the sort': ({'bands': {'up': 1}}, 'there are 0'),
}

@pytest.mark.parametrize('case', CASES)
def test_damaged_json(tmp_path, case):
    changes, says = CASES[case]
    (tmp_path/'2dm-7.json').write_text(json.dumps(as_pymatgen(**changes)))
    one_line(lambda: read_bands(tmp_path/'2dm-7.json'), '2dm-7.json: ', says)

def test_cut_anywhere_it_is_refused(tmp_path):
    for name, whole in {'a.json': json.dumps(as_pymatgen()).encode(), 'EIGENVAL': as_eigenval().encode(), 'b.json.gz': gzip.compress(json.dumps(as_pymatgen()).encode())}.items():
        p = tmp_path/name
        for n in {*range(0, len(whole) - 1, len(whole)//60), *range(1, 12), len(whole) - 1, len(whole) - 9}:
            p.write_bytes(whole[:n])
            one_line(lambda: read_bands(p, efermi=0), f'{name}: ')
        for n in range(20, len(whole), len(whole)//20):      # a stretch in the middle is missing
            p.write_bytes(whole[:n] + whole[n + 15:])
            try: assert np.isfinite(read_bands(p, efermi=0).energies).all()
            except ValueError as e: assert str(e).count('\n') == 0 and name in str(e)

def test_other_files(tmp_path):
    (tmp_path/'EIGENVAL').write_text(as_eigenval())
    one_line(lambda: read_bands(tmp_path/'EIGENVAL'), 'EIGENVAL: an EIGENVAL has no Fermi level')
    one_line(lambda: read_bands(tmp_path/'EIGENVAL', efermi=np.inf), 'Fermi level is inf')
    (tmp_path/'stars').write_text(as_eigenval().replace('3.250000', '********'))
    one_line(lambda: read_bands(tmp_path/'stars', efermi=0), 'stars: not all of it is numbers')
    (tmp_path/'picture.png').write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(range(256))*9)
    one_line(lambda: read_bands(tmp_path/'picture.png'), 'neither JSON nor an EIGENVAL')
    one_line(lambda: read_bands(tmp_path), str(tmp_path))
    one_line(lambda: read_bands(tmp_path/'nowhere'), 'nowhere: ')
    one_line(lambda: read_bands({}), 'band structure: ')
    two = tmp_path/'db.json'
    two.write_text('{"a": 1}\n{"a": 2}\n')
    one_line(lambda: read_bands(two), 'not JSON')

@pytest.mark.parametrize('name', lattices)
def test_hamiltonian(name):
    lattice, rng = lattices[name], np.random.default_rng(0)
    k = rng.uniform(-9, 9, (50, 2))
    H = hamiltonian(lattice, k, t=[1., -.7], t2=[.2, 0], onsite=[.5, 0])
    assert np.allclose(H, H.conj().swapaxes(-1, -2))
    second = np.array([sum(np.exp(1j*(k @ v)) for i, j, v in some if i == j) + np.zeros(50) for some in bonds(lattice)]).real
    assert np.allclose(np.trace(H[0], axis1=1, axis2=2), .5*lattice.sorts.count('B') - second[0] - .2*second[1])
    again = hamiltonian(lattice, k + np.array([2, -1]) @ lattice.reciprocal, t=[1., -.7], t2=[.2, 0], onsite=[.5, 0])
    assert np.allclose(np.linalg.eigvalsh(H), np.linalg.eigvalsh(again))      # a reciprocal vector changes nothing
    assert np.allclose(np.linalg.eigvalsh(H), np.linalg.eigvalsh(hamiltonian(lattice, -k, t=[1., -.7], t2=[.2, 0], onsite=[.5, 0])))
    for some in bonds(lattice):
        there = {(i, j, *v.round(6) + 0.) for i, j, v in some}
        assert there == {(j, i, *(-v).round(6) + 0.) for i, j, v in some} and len(there) == len(some)

@pytest.mark.parametrize('name', ['honeycomb', 'Lieb', 'dice'])
def test_bipartite_lattices_are_symmetric(name):
    e = np.linalg.eigvalsh(hamiltonian(lattices[name], np.random.default_rng(1).uniform(-9, 9, (50, 2))))
    assert np.allclose(e, -e[..., ::-1])

@pytest.mark.parametrize('name', ['square', 'square-octagon'])
def test_lattices_bipartite_over_two_cells_are_symmetric_half_a_zone_away(name):
    k = np.random.default_rng(1).uniform(-9, 9, (50, 2))
    e, away = (np.linalg.eigvalsh(hamiltonian(lattices[name], q)) for q in (k, k + np.pi))
    assert np.allclose(e, -away[..., ::-1])

@pytest.mark.parametrize('name', lattices)
def test_half_filling_is_between_the_bands(name):
    b, n = lattice_bands(name, n_k=300), len(lattices[name].sites)
    assert b.energies.min() < 0 < b.energies.max() + 1e-9
    assert lattice_bands(name, electrons=1).energies.max() >= b.energies.max() - 1e-9 or n == 1

@pytest.mark.parametrize('size', [2, 7, 28, (7, 500), (500, 7), (1, 9), 256])
def test_any_size(size):
    h, w = (size, size) if isinstance(size, int) else size
    if min(h, w) < 2: return one_line(lambda: draw_bands(lattice_bands('star'), size), f'{h}×{w}')
    x = draw_bands(lattice_bands('star'), size)
    assert x.shape == (h, w) and x.dtype == np.uint8 and x.any()
    if min(h, w) > 10: assert (x.max(0) > 100).all()                # ink in every column: no band breaks

def test_a_steep_band_is_one_piece():
    from scipy.ndimage import label
    for slope in (4, 7, 10, 50, 1000):
        k = np.linspace(-1, 1, 81)
        x = draw_bands(Bands(k, [np.clip(slope*np.abs(k) - 3, -3, 3.5)]), 128)
        assert label(x > 90)[1] == 1
        rows = np.flatnonzero(x.any(1))
        top = (4 - min(slope - 3, 3.5))*16
        assert abs(rows[0] - top) <= 3 and abs(rows[-1] - 112) <= 3   # it ends where the band does
    far = Bands([0, .5, 1], [[-1e9, 1e9, -1e9], [1e300, -1e300, 0]])
    assert draw_bands(far, 64).shape == (64, 64)

@pytest.mark.parametrize('width', [.5, 1, 3, 5, 10.3, 64])
def test_any_pen_over_the_edges(width):
    k = np.linspace(0, 1, 50)
    x = draw_bands(Bands(k, [40*k - 20, 20 - 40*k, 0*k + 4.01, 0*k - 4.01]), 64, width=width)
    assert x.shape == (64, 64) and (x == x[::-1]).mean() > .9
    if width > 1: assert x[:, 0].max() > 0 and x[0].min() > 0

def test_ink_does_not_depend_on_how_finely_a_band_was_computed():
    k = [np.linspace(0, 1, n) for n in (400, 1600)]
    a, b = (draw_bands(Bands(x, [3*np.sin(7*x), 2*np.cos(5*x)]), 96).astype(int) for x in k)
    assert np.abs(a - b).max() < 20

def test_family():
    a = band_family(200, 32, seed=3)
    assert (a.pixels == band_family(200, 32, seed=3).pixels).all() and a.classes == list(lattices)
    assert np.ptp(np.bincount(a.labels, minlength=len(lattices))) <= 1 and a.flat.shape == (200,) and 20 < a.flat.sum() < 120
    assert a.pixels.any((1, 2, 3)).all()
    of = {c: a.flat[a.labels == i] for i, c in enumerate(a.classes)}
    assert of['star'].all() and not any(of[c].any() for c in ('square', 'triangular', 'honeycomb', 'square-octagon'))
    assert all(0 < of[c].mean() < 1 for c in ('kagome', 'Lieb', 'dice', 'checkerboard'))
    assert (a.pixels[7, 0] == draw_bands(a.bands[7], 32)).all() and a.names[7] == a.bands[7].name
