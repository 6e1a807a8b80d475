"Writes README.md from nbs/index.ipynb; with --check it only says whether it is in step."
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).parent.parent

def readme():
    "The index notebook as Markdown: hidden cells and outputs left out, its links as seen from the top folder."
    nb = nbformat.read(root/'nbs/index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not c.source.startswith('#| hide')]
    nb.metadata['language_info'] = {'name': 'python'}
    text = MarkdownExporter(exclude_output=True, exclude_input_prompt=True).from_notebook_node(nb)[0]
    return re.sub(r'\]\((?!https?:|#)', '](nbs/', text).strip() + '\n'

if __name__ == '__main__':
    path, text = root/'README.md', readme()
    if '--check' not in sys.argv: path.write_text(text, encoding='utf-8')
    elif not path.exists() or path.read_text(encoding='utf-8') != text: sys.exit('not in step with nbs/index.ipynb: README.md; run make readme')
