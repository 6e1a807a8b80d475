"Builds the package from what `settings.ini` says; nothing is stated twice."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
extras = 'gpu widgets onnx large machines cluster'.split()

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], license=cfg['license'], url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_url']},
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    python_requires='>=' + cfg['min_python'],
    packages=find_packages(include=['cae', 'cae.*']), include_package_data=True,
    package_data={'cae': ['data/mnist/*', 'page/*']},
    install_requires=cfg['requirements'].split(),
    extras_require={k: cfg[f'{k}_requirements'].split() for k in extras} | {'dev': ' '.join(cfg[f'{k}_requirements'] for k in ('dev', *extras)).split()},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['cae=cae._modidx:d']},
)
