# Everything a newcomer types. `make discover` and `make test` need Python 3.11 or newer and a package registry; no more.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= out/digits
STORIES := nbs/tutorials/discovering_digits.ipynb nbs/tutorials/band_structures.ipynb nbs/tutorials/your_images.ipynb

.PHONY: discover test browser lab notebooks bench readme address docs clean

discover: $(VENV)/done           ## the main job: the 70,000 digits, everything left in out/digits
	$(BIN)/cae discover mnist --out $(OUT)

# Two at a time, each with one thread: small batches keep no second core busy, and threads that wait for each other would take both.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/done browser       ## every test, the chapters, and the two long stories on a few images: `notebooks` runs these whole, `bench` the benchmarks
	$(BIN)/nbdev-test nbs --do-print --n-workers 2
	$(BIN)/pytest -rs -n 2 --dist loadfile tests

# The page and the widgets are tested in Chromium. Where nobody may install it their tests are skipped, and say so.
browser:                         ## Debian's Chromium, if it is not there and may be installed
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >/dev/null 2>&1 \
	|| echo 'no chromium, and none could be installed: the tests of the page and of the widgets will be skipped'

lab: $(VENV)/done                ## JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs

notebooks: $(VENV)/done          ## run every notebook in place, so that the committed outputs are true
	$(BIN)/nbdev-export
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace nbs/*.ipynb $(STORIES)
	$(BIN)/python tools/stills.py
	$(BIN)/nbdev-clean
	$(BIN)/python tools/readme.py

bench: $(VENV)/done              ## every measurement, three hours on two cores; some of them: make bench ONLY='Discovery, The page'
	$(BIN)/python tools/bench.py "$(ONLY)"
	$(BIN)/nbdev-clean

readme: $(VENV)/done             ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

address: $(VENV)/done            ## carry the address in settings.ini into the notebooks and the README
	$(BIN)/python tools/address.py

docs: $(VENV)/done               ## the documentation's pages, where Quarto is installed
	$(BIN)/nbdev-docs

clean:
	rm -rf $(VENV) out build *.egg-info

$(VENV)/done: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cae needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
