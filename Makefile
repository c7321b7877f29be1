# What a newcomer types: make serve, make test. Both need only Python 3.11–3.13 and make.
# While working on the code: make quick, the tests that need neither torch nor a server process, under a minute.
#
#   TORCH_INDEX=URL  take torch and torchvision from another index first (the CPU-only one, say: docs/serving.md)
#   MODEL=PATH       serve this bundle or TorchScript file
#   OPTIONS="…"      further options of the server
#   BUDGET_S=N       seconds that the first `make serve` takes to optimise
#   WORKERS=N        processes that run the tests; as some tests wait, one more than there are cores

VENV := .venv
BIN := $(VENV)/bin
STORE := models/store
MODEL :=
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 5 ? cores + 1 : 6)))
OPTIONS :=
BUDGET_S := 50

# The first of these that runs and is of a supported version; a shim that only prints an error is passed over.
find_python = for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
		&& { echo $$python; break; }; done
PYTHON ?= $(shell $(find_python))

# Compiled modules are kept, whatever the environment says: some hundred processes of the tests would compile them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: serve optimize test test-all quick test-avx2 lint peers bench simd clean

serve: $(VENV)/.installed
ifeq ($(MODEL),)
	@$(BIN)/python optimize_model_for_inference.py --arch auto --if-missing --budget-s $(BUDGET_S) \
		|| echo "No ImageNet model could be made; the handwritten-digits demo is served instead."
endif
	@exec $(BIN)/python -m server $(if $(MODEL),--model $(MODEL)) $(OPTIONS)

# The full search, which takes minutes: every engine, in many rounds.
optimize: $(VENV)/.installed
	$(BIN)/python optimize_model_for_inference.py --arch auto --force $(OPTIONS)

# Idle threads of one test process would spin on the cores of the others.
test: $(VENV)/.installed-dev
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term --cov-report=json:.cache/coverage.json $(PYTEST)
	$(BIN)/python scripts/check_coverage.py .cache/coverage.json

# Also the tests that take long and show for further members what others show.
test-all:
	$(MAKE) test PYTEST="--exhaustive $(PYTEST)"

# Chosen by what the test files import: tests/quick.py.
quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m quick -n $(WORKERS) --dist loadfile $(PYTEST)

# make test with the instructions of a processor that has AVX2 and neither AVX-512 nor VNNI: int8 differs there.
test-avx2:
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(MAKE) test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Half an hour, on a machine that does nothing else: docs/benchmark.md.
bench: $(VENV)/.installed-dev
	@command -v wrk >/dev/null || scripts/system-packages.sh
	$(BIN)/python -m benchmark serve-compare $(if $(MODEL),--model $(MODEL)) $(OPTIONS) \
		--output benchmark/results/serve-compare.json --plot docs/serve-compare.svg

# The other servers of the benchmark, each with an environment of its own; some of their tests need them.
peers: $(VENV)/.installed-dev
	$(BIN)/python -m benchmark peers

# Pillow with AVX2, for those who want it: docs/pictures.md. What is installed later puts it back in its place.
simd: $(VENV)/.installed
	scripts/pillow-simd.sh $(BIN)/python

again_simd = @if [ -d $(VENV)/.pillow-simd ]; then scripts/pillow-simd.sh $(BIN)/python; fi

clean:
	rm -rf $(VENV) $(STORE) models/images/*.so .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build dist .coverage

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and was not found; name one with PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --quiet torch torchvision -c constraints.txt --index-url $(TORCH_INDEX)
endif

$(VENV)/.installed: pyproject.toml constraints.txt models/images/jpeg_region.c | $(VENV)/bin/python
	@echo "Installing SnapServe into $(VENV) (torch is large: a few minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[openvino,timm,plot]' -c constraints.txt
	$(again_simd)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	$(again_simd)
	@touch $@
