# A few words are all a newcomer needs: make run | make up | make down | make ui | make test | make check   (and make clean)
# uv is brought along when the machine has none. Another Python: make run PYTHON=3.12

PYTHON ?= >=3.11,<3.13
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .tools/bin/uv)

# uv does not read pip's configuration: where pip knows a folder of wheels (a CPU build of torch, say), hand it on.
UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell python3 -m pip config get global.find-links 2>/dev/null))
ifneq ($(strip $(UV_FIND_LINKS)),)
export UV_FIND_LINKS
endif

.PHONY: run test test-slow test-long test-long-stack test-long-kills test-long-transcripts test-long-crashes test-long-quarter test-long-servers test-long-models test-long-benchmarks test-long-ray
.PHONY: check docs up down ui clean bench bench-models bench-anomaly env lock params format

run: env
	$(BIN)/ae run digits

# Coverage is that of these packages by most tests of their own folders (MEASURED in tests/conftest.py), and must not fall below.
COVERED := aeops.codec aeops.data aeops.evaluation aeops.gate aeops.report
COVERED_PERCENT := 85

PARALLEL := -n auto --dist loadgroup --no-loadscope-reorder  # in the order of tests/conftest.py

test: env
	$(BIN)/pytest $(PARALLEL) $(COVERED:%=--cov=%) --cov-report= --cov-fail-under=$(COVERED_PERCENT)

# Tests that take half a second of CPU time or more, and whole runs but two. CI runs them after `make test`.
test-slow: env
	$(BIN)/pytest -m 'slow and not long' $(PARALLEL)

# What brings whole servers up for minutes, and every point at which a process is killed. Each target records its run in
# tests/records/long.json; `make check` warns of a record that is older than the code it is of, `make check RELEASE=1` refuses it.
LONG_TESTS := test-long-stack test-long-kills test-long-transcripts test-long-crashes test-long-ray test-long-quarter test-long-servers test-long-models \
	test-long-benchmarks

test-long:
	failed=0; for target in $(LONG_TESTS); do $(MAKE) $$target || failed=1; done; exit $$failed

$(LONG_TESTS): test-long-%: env
	$(BIN)/python tests/long_run.py $*

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/long_run.py --check $(if $(RELEASE),--release)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The site of docs/ in .ae/site; a link that leads nowhere is an error.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

up: env
	$(BIN)/ae up

down: env
	$(BIN)/ae down

ui: env
	$(BIN)/ae ui

bench: env
	$(BIN)/python benchmarks/bench.py

# Every recipe, each in a fresh clone of HEAD, one after another. Only some: make bench-models RECIPES="mnist mnist-vae"
bench-models: env
	$(BIN)/python benchmarks/models.py $(RECIPES)

# Hours on two cores; each cell is stored. Only some: make bench-anomaly PROTOCOLS="digits mnist-oc"
bench-anomaly: env
	$(BIN)/python benchmarks/anomaly_detection.py $(if $(PROTOCOLS),--protocols $(PROTOCOLS))

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The hash of each stage's code in params.yaml, after a change of code. `ae run` does the same.
params: env
	$(BIN)/python -m aeops.data.stage_code --write

env: $(READY)

# The scripts of an environment name the folder that it was made in: copied or moved, they run the original's code.
ELSEWHERE := $(shell test ! -e $(BIN)/ae || head -n 3 $(BIN)/ae | grep -qF '$(CURDIR)/$(BIN)/python' || echo remove-copied-env)

.PHONY: remove-copied-env
remove-copied-env:
	rm -rf $(VENV)

$(READY): $(ELSEWHERE) requirements.lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python '$(PYTHON)' $(VENV)
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --no-deps --python $(BIN)/python --editable .
	touch $(READY)

.tools/bin/uv:
	python3 -m pip install --quiet --target .tools uv

# The lock holds torch by its public version: a machine whose find-links offers the CPU build takes that (a local version
# sorts higher), any other takes the registry's build with CUDA, whose own metadata pins its CUDA packages.
lock: | $(UV)
	echo 'torch==2.13.0+cpu' > .lock-override
	$(UV) pip compile --quiet --universal --no-emit-index-url --no-header --python-version 3.11 --extra dev --extra ray \
		--override .lock-override pyproject.toml --output-file requirements.lock
	sed -i 's/^torch==2.13.0+cpu$$/torch==2.13.0/' requirements.lock
	rm .lock-override

# Takes away what `make` itself brought. The state (.ae: registry, DVC remote), data/ and artifacts/ are yours and stay.
clean:
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*
