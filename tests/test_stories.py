"The two long stories run from the first cell to the last, on a few images; what they measure on all of them is in their committed outputs."
import json
from pathlib import Path
import nbformat, pytest
from nbclient import NotebookClient

stories = Path(__file__).parent.parent/'nbs/tutorials'
shorter = {'discovering_digits': {"mnist('train'), mnist('test')": "mnist('train')[:3000], mnist('test')[:500]", 'train, first_groups)': 'train, first_groups, epochs=2)'},
           'band_structures': {'band_family(4000)': 'band_family(200)', 'order[800:]': 'order[40:]', 'order[:800]': 'order[:40]', 'train_for(15,': 'train_for(3,',
                               'train_for(6,': 'train_for(2,', 'range(1, 7)': 'range(1, 3)'}}

def shortened(name):
    "The story called `name` with fewer images, and without the checks that hold for all of them."
    nb = nbformat.reads((stories/f'{name}.ipynb').read_text(), 4)
    source = '\n'.join(c.source for c in nb.cells)
    for old in shorter[name]: assert old in source, f'{name}: {old} is not in it any more'
    for c in nb.cells:
        if c.cell_type != 'code': continue
        for old, new in shorter[name].items(): c.source = c.source.replace(old, new)
        c.source = '\n'.join(l for l in c.source.splitlines() if not l.startswith('test_eq('))
    return nb

@pytest.mark.parametrize('name', shorter)
def test_story_runs(name, monkeypatch):
    monkeypatch.delenv('MPLBACKEND', raising=False)                # the command sets it, and a kernel would draw nothing
    nb = NotebookClient(shortened(name), timeout=600, kernel_name='python3', resources=dict(metadata=dict(path=str(stories)))).execute()
    drawn = [sum('image/png' in o.get('data', {}) for o in c.get('outputs', [])) for c in nb.cells]
    kept = [sum('image/png' in o.get('data', {}) for o in c.get('outputs', [])) for c in json.loads((stories/f'{name}.ipynb').read_text())['cells']]
    assert drawn == kept, 'not the pictures that the committed story has'
