# `make demo` and `make test` do everything on a fresh machine with Python >= 3.10 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread per process: the tests run several processes, which would fight over the cores. Files run in the order of
# their folders: sorted by number of tests, those with few long ones would come last.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15
PAGES := build/pages
WALK := build/wheel-walk
DATA ?=
OUT ?= runs/$(firstword $(MAKECMDGOALS))-$(shell date +%Y%m%d-%H%M%S)
OUT := $(OUT)

export SAM2_BUILD_CUDA := 0
# Bytecode is kept, whatever the environment says: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo sweep-demo picture test test-cluster test-fault mutate wheel-walk bench check docs format settings clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else "sam2vt needs Python 3.10 to 3.13, this is %d.%d; set PYTHON=python3.x" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	# SAM 2 builds against the torch that is installed, so torch comes first.
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision numpy
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation sam2
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[dev,docs,hub,wandb,mlflow]'
	# Apart, for their own tests: Lightning's torchmetrics would load transformers in every process.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --upgrade --target $(VENV)/oracles \
		'transformers; python_version >= "3.11"' 'tokenizers; python_version >= "3.11"' 'regex; python_version >= "3.11"' \
		'peft; python_version >= "3.11"' 'accelerate; python_version >= "3.11"'
	touch $(READY)

# A whole training through Ray with two workers, judged on what it did not train on: on generated videos, of which some
# are held back, then masks on a video that it never saw; or on DATA=<folder>, of which the end of each video is.
ifdef DATA
demo: $(READY)
	$(BIN)/python ray_jobs/train.py experiment=demo split=time dataset.data_path=$(abspath $(DATA)) output_dir=$(OUT)
else
demo: $(READY) runs/demo-data runs/demo-unseen
	$(BIN)/python ray_jobs/train.py experiment=demo split=video dataset.data_path=$(abspath runs/demo-data) output_dir=$(OUT)
	@echo && echo "Masks on a video that was in neither set, from its first mask:"
	$(BIN)/sam2vt predict $(OUT) runs/demo-unseen --formats png overlay --out $(OUT)/unseen
endif

# A sweep of eight trials on short generated videos, from a learning rate that is ten times too low. Two are held back.
sweep-demo: $(READY) runs/sweep-data
	$(BIN)/python ray_jobs/tune.py experiment=sweep_demo sweep=demo split=video dataset.data_path=$(abspath runs/sweep-data) output_dir=$(OUT)

runs/demo-data: | $(READY)
	$(BIN)/sam2vt sample-data $@ --videos 50 --frames 24

# Another seed gives other objects, paths and backgrounds.
runs/demo-unseen: | $(READY)
	$(BIN)/sam2vt sample-data $@ --videos 1 --frames 24 --seed 1

runs/sweep-data: | $(READY)
	$(BIN)/sam2vt sample-data $@ --videos 10 --frames 24

# README's animation: trains the demo's network for some minutes, by a recipe of its own, and draws its tracking.
picture: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/picture.py

test: $(READY)
	$(PYTEST) tests --ignore tests/fault -m "not cluster"

# Slow tests: jobs, sweeps and scaling clusters of Ray, a sweep's report in a browser, the pages that are run whole,
# and SAM 2 at full size against transformers.
test-cluster: $(READY)
	$(PYTEST) tests --ignore tests/fault -m cluster

# Slow tests: runs that are stopped from outside and resumed; one at a time, as each has limits in seconds.
test-fault: $(READY)
	$(PYTEST) -n 0 tests/fault

# Puts small faults into modules of a copy, and sees that their tests notice. It takes long.
mutate: $(READY)
	$(BIN)/python -m tests.mutation.run --out tests/mutation/RECORD.md

# The wheel and all that it needs in a new environment of several GB, of PYTHON, and a new user's commands there.
wheel-walk: $(READY)
	rm -rf $(WALK)
	$(BIN)/python -m tests.integration.wheel_walk $(WALK) --python $(PYTHON)

# Times and memory of an idle machine, into the records and tables of benchmarks/ and README.
bench: $(READY)
	$(BIN)/python benchmarks/all.py

check: $(READY) docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation as a site, site/index.html. A page that is linked and not there is an error. What builds it
# needs Python 3.11: on 3.10 nothing is built.
docs: $(READY)
	rm -rf $(PAGES) && mkdir -p $(PAGES)/tests/rules
	cp -r *.md LICENSE NOTICE cluster.yaml docs benchmarks configs deploy $(PAGES)
	cp -r tests/rules/extending $(PAGES)/tests/rules
	$(BIN)/python docs/notebooks.py $(PAGES)
	test ! -x $(BIN)/zensical || $(BIN)/zensical build --strict --clean

# docs/settings.md and the comments in configs/, from the settings themselves.
settings: $(READY)
	$(BIN)/python -m sam2vt.configuration.document

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs outputs build site
