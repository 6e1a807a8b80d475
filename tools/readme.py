"Writes README.md from nbs/index.ipynb, and its picture from the first story; with --check it only says whether they are in step."
import base64, json, re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).parent.parent
story, picture = root/'nbs/tutorials/discovering_digits.ipynb', root/'nbs/images/map.png'

def story_map():
    "The PNG of the story's map painted by the labels."
    for cell in json.loads(story.read_text(encoding='utf-8'))['cells']:
        if ''.join(cell['source']).startswith('plot_map(themap, train.labels'):
            return base64.b64decode(next(o['data']['image/png'] for o in cell['outputs'] if 'image/png' in o.get('data', {})))
    raise SystemExit(f'{story}: has no picture of the painted map')

def readme():
    "The index notebook as Markdown: hidden cells and outputs left out, its links as seen from the top folder."
    nb = nbformat.read(root/'nbs/index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| hide')]
    nb.metadata['language_info'] = {'name': 'python'}
    text = MarkdownExporter(exclude_output=True, exclude_input_prompt=True).from_notebook_node(nb)[0]
    return re.sub(r'\]\((?!https?:|#)', '](nbs/', text).strip() + '\n'

if __name__ == '__main__':
    want = {root/'README.md': readme().encode(), picture: story_map()}
    if '--check' in sys.argv:
        stale = [str(p.relative_to(root)) for p, data in want.items() if not p.exists() or p.read_bytes() != data]
        sys.exit(f'not in step with the notebooks: {", ".join(stale)}; run make readme' if stale else 0)
    for p, data in want.items():
        p.parent.mkdir(exist_ok=True)
        p.write_bytes(data)
