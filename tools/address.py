"Carries the project's address from settings.ini into the notebooks that name it; with --check it only says where it differs."
import re, sys
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).parent.parent
cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
named = re.compile(r"git\+https?://[^\s'\"\\`]+")
stale = []
for nb in sorted((root/'nbs').rglob('*.ipynb')):
    old = nb.read_text(encoding='utf-8')
    new = named.sub('git+' + cfg['DEFAULT']['git_url'], old)
    if new != old:
        stale.append(str(nb.relative_to(root)))
        if '--check' not in sys.argv: nb.write_text(new, encoding='utf-8')
if stale and '--check' in sys.argv: sys.exit(f'another address than in settings.ini: {", ".join(stale)}; run make address readme')
