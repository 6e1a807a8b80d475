"The module, the notebooks and the README say the same; the notebooks are clean and hold outputs and no errors."
import ast, json, re, shutil, subprocess, sys
from collections import Counter
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
modules = sorted((root/'cae').glob('*.py'))

@pytest.fixture(scope='module')
def fresh(tmp_path_factory):
    "A copy of the tree in which the module was exported anew and the notebooks were cleaned."
    d = tmp_path_factory.mktemp('tree')
    for name in ('pyproject.toml', 'settings.ini'): shutil.copy(root/name, d)
    shutil.copytree(root/'nbs', d/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints', 'models'))
    (d/'cae').mkdir()
    shutil.copy(root/'cae/__init__.py', d/'cae')
    bin = Path(sys.executable).parent
    for tool in ('nbdev-export', 'nbdev-clean'): subprocess.run([bin/tool], cwd=d, check=True)
    return d

def test_module_is_what_the_notebooks_export(fresh):
    assert {p.name for p in modules} == {p.name for p in (fresh/'cae').glob('*.py')}
    for p in modules: assert p.read_text() == (fresh/'cae'/p.name).read_text(), f'{p.name}: run nbdev-export'

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_notebook_is_clean(nb, fresh):
    assert nb.read_text() == (fresh/nb.relative_to(root)).read_text(), f'{nb.name}: run nbdev-clean'

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_notebook_holds_outputs_and_no_errors(nb):
    outputs = [o for c in json.loads(nb.read_text())['cells'] for o in c.get('outputs', [])]
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert outputs, f'{nb.name}: run make notebooks'
    text = json.dumps(outputs)
    assert 'site-packages' not in text, f'{nb.name}: a warning with the path of a machine'
    assert 'Warning' not in text or not re.search(r'/\S+\.py:\d+: \w*Warning', text), f'{nb.name}: a warning with the path of a machine'        # most have none, and pictures are long to search

@pytest.mark.parametrize('module', modules, ids=lambda p: p.stem)
def test_nothing_is_defined_twice(module):
    "Of two functions of one name in a module the first is lost, and nobody is told."
    names = Counter(n.name for n in ast.parse(module.read_text()).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))
                    and not any('patch' in ast.unparse(d) for d in n.decorator_list))
    assert [name for name, n in names.items() if n > 1] == []

_programs = {'pickle', '_pickle', 'joblib', 'dill', 'cloudpickle', 'shelve', 'marshal'}
_loaders = {'load_learner', 'load_pickle', 'save_pickle', 'read_pickle', 'to_pickle'}

def _can_run(n):
    "Does the node `n` of a program pickle, or run what it is given?"
    if isinstance(n, ast.Import): return any(a.name.split('.')[0] in _programs for a in n.names)
    if isinstance(n, ast.ImportFrom): return (n.module or '').split('.')[0] in _programs or any(a.name in _loaders or n.module == 'torch' and a.name in ('load', 'save') for a in n.names)
    if isinstance(n, ast.Constant): return n.value in _programs
    if isinstance(n, ast.Name): return n.id in _loaders | {'eval', 'exec', '__import__'}
    if isinstance(n, ast.Attribute): return n.attr in _loaders or ast.unparse(n) in ('torch.load', 'torch.save') or n.attr == 'export' and ast.unparse(n) not in ('torch.export', 'torch.onnx.export')
    return isinstance(n, ast.keyword) and n.arg == 'allow_pickle' and ast.unparse(n.value) != 'False'

def _running(code): return [f'line {n.lineno}: {ast.unparse(n)}' for n in ast.walk(ast.parse(code)) if _can_run(n)]

@pytest.mark.parametrize('module', modules, ids=lambda p: p.stem)
def test_nothing_that_is_read_can_run(module): assert _running(module.read_text()) == []

@pytest.mark.parametrize('code', ['import pickle', 'import joblib as j', 'from dill import load', 'import_module("cloudpickle")', 'torch.load(p)', 'from torch import load', 'f = torch.save', 'learn.export(p)',
                                  'fastai.learner.load_learner(p)', 'np.load(p, allow_pickle=True)', 'np.load(p, allow_pickle=this)', 'pd.read_pickle(p)', 'eval(s)'])
def test_what_could_run_would_be_found(code): assert _running(code)

def test_chapters_import_only_lower_ones():
    order = {p.stem.split('_', 1)[1]: p.stem[:2] for p in notebooks if p.stem[:2].isdigit()}
    for nb in notebooks:
        if not nb.stem[:2].isdigit(): continue
        for c in json.loads(nb.read_text())['cells']:
            if c['cell_type'] != 'code': continue
            code = ''.join(l for l in c['source'] if not l.startswith(('%', '!')))
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('cae.'):
                    assert order[node.module.split('.')[1]] < nb.stem[:2], f'{nb.name}: from {node.module}'

def _cells(nb, kind): return [''.join(c['source']) for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == kind]

def _wide(nb, most=130):
    "The lines of code that a page would cut off; a parameter and what is said of it stay in one, however long."
    return [l for c in _cells(nb, 'code') for l in c.split('\n') if len(l) > most and not re.match(r'\s+\*{0,2}\w+(:[^#]+)?(=[^#]+)?,? # ', l)]

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_code_is_no_wider_than_a_page(nb): assert _wide(nb) == []

def test_wide_code_would_be_found(tmp_path):
    lines = ['x = 1 # ' + 'a'*130, '    x:int=1, # ' + 'a'*130, '    **kwargs, # ' + 'a'*130, '    return f(x) # ' + 'a'*130]
    (tmp_path/'x.ipynb').write_text(json.dumps(dict(cells=[dict(cell_type='code', source='\n'.join(lines))])))
    assert _wide(tmp_path/'x.ipynb') == [lines[0], lines[3]]

def _words(nb): return _cells(nb, 'markdown')

def _lost(nb):
    "Links on the page `nb` that lead to no file, or to no heading in one."
    for to in re.findall(r'\]\(([^)\s]+)\)', '\n'.join(_words(nb))):
        file, _, heading = to.partition('#')
        page = nb.parent/file if file else nb
        if to.startswith('http') or page.suffix not in ('.ipynb', '.py', '.png', '.md'): continue
        if not page.exists() or heading and heading not in {h.replace(' ', '-') for h in re.findall(r'^#+ (.*)$', '\n'.join(_words(page)), re.M)}: yield to

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_links_lead_somewhere(nb): assert list(_lost(nb)) == []

def test_a_lost_link_would_be_found(tmp_path):
    cells = [dict(cell_type='markdown', source=['## Here it is\n', '[a](#Here-it-is) [b](#There) [c](b.ipynb) [d](https://example.org) [e](a.ipynb#Here-it-is)'])]
    (tmp_path/'a.ipynb').write_text(json.dumps(dict(cells=cells)))
    assert list(_lost(tmp_path/'a.ipynb')) == ['#There', 'b.ipynb']

@pytest.mark.parametrize('tool', ['readme.py', 'address.py', 'stills.py'])
def test_readme_address_and_stills_are_in_step(tool):
    res = subprocess.run([sys.executable, root/'tools'/tool, '--check'], capture_output=True, text=True)
    assert res.returncode == 0, res.stderr

def test_pinned_versions_are_the_ones_running():
    from importlib.metadata import version
    for line in (root/'constraints.txt').read_text().splitlines():
        name, _, pinned = line.partition('==')
        if name in ('torch', 'torchvision', 'fastai', 'fastcore', 'nbdev', 'openTSNE', 'scikit-learn', 'matplotlib', 'numpy', 'safetensors'):
            assert version(name) == pinned, name
