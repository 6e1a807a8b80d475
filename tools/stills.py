"Leaves of each widget in the notebooks only its picture, which is shown wherever nothing runs; with --check it only says where there is more."
import sys
from pathlib import Path
from fastcore.nbio import read_nb, write_nb

root, view = Path(__file__).parent.parent, 'application/vnd.jupyter.widget-view+json'
more = []
for path in sorted((root/'nbs').rglob('*.ipynb')):
    nb = read_nb(path)
    found = [o['data'].pop(view) for c in nb.cells for o in c.get('outputs', []) if view in o.get('data', {})] + [*filter(None, [nb.metadata.pop('widgets', None)])]
    if not found: continue
    more.append(str(path.relative_to(root)))
    if '--check' not in sys.argv: write_nb(nb, path)
if more and '--check' in sys.argv: sys.exit(f'widgets with more than their picture: {", ".join(more)}; run python tools/stills.py')
