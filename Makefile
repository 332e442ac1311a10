# `make demo` and `make test` do all the set-up on a fresh machine; `make help` lists the rest.
.DEFAULT_GOAL := help
VENV := .venv
BUNDLE ?= nec_t1t2
PYTHON := $(abspath $(VENV))/bin/python

.PHONY: help demo docs test test-slow environments test-interop test-faults test-container test-newest audit bench gpu gpu-wheels lint wheel clean
.SECONDARY:

ENVIRONMENTS := clean label deploy flare mlflow pacs zoo browser

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/core: pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[report]'
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/core  ## phantom, training, translation, evaluation, report: 10 minutes on 2 cores
	$(PYTHON) -m common demo $(BUNDLE) --output_dir runs/demo$(if $(filter-out nec_t1t2,$(BUNDLE)),_$(BUNDLE))

$(VENV)/docs: $(VENV)/core
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/docs  ## the pages and an API reference in build/docs; a warning is an error: half a minute
	$(PYTHON) -m sphinx -q -W --keep-going -c docs . build/docs
	@echo "Pages: build/docs/docs/index.html"

test: $(VENV)/dev  ## the core test suite: 10 minutes on 2 cores
	$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow and not interop and not faults and not container"

test-slow: $(VENV)/dev  ## the tests that take long each: 6 minutes on 2 cores
	$(PYTHON) -m pytest -n 2 --dist worksteal -m "slow and not faults"

.venvs/%/ready: environments/%.sh constraints.txt pyproject.toml
	bash $< $(@D)
	touch $@

.venvs/mlflow/ready: $(VENV)/dev

environments:  # two at a time: to unpack the packages takes most of the time
	$(MAKE) --jobs 2 $(ENVIRONMENTS:%=.venvs/%/ready)

test-interop: $(VENV)/dev environments  ## releases in MONAI alone, Label, Deploy, Orthanc, FLARE, ONNX; MLflow; the viewer in Chromium
	$(PYTHON) -m pytest -n 2 --dist loadfile --max-worker-restart 0 -m interop --durations 0 --durations-min 5

test-faults: $(VENV)/dev  ## killed processes, full disks, damaged files, dead workers: 7 minutes on 2 cores
	$(PYTHON) -m pytest -n 2 --dist loadfile --max-worker-restart 0 -m faults

# Not in CI: to gather the wheels and to build both images takes longer than all other environments.
test-container: $(VENV)/dev  ## build the containers of the DICOM service and the Label server, and run them without a network; root
	bash environments/container.sh build/container
	CONTAINER_RESULTS=benchmarks/results/container.json unshare --net sh -c \
	  'ip link set lo up && exec $(PYTHON) -m pytest -m container tests/interop/test_container.py'

# The newest releases of everything but PyTorch, which is installed first, as in `core`, and then held, so that its CPU
# build stays. BASE=python3.12 takes another Python.
BASE ?= python3
NEWEST := .venvs/newest-$(notdir $(BASE))

$(NEWEST)/ready: pyproject.toml
	test -x $(NEWEST)/bin/python || $(BASE) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(NEWEST)/bin/python -m pip freeze | grep -i "^torch==" > $(NEWEST)/torch.txt
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	  -c $(NEWEST)/torch.txt -e '.[dev]'
	touch $@

test-newest: $(NEWEST)/ready  ## the core suite with the newest releases; BASE=python3.12 takes another Python
	$(NEWEST)/bin/python -m pip freeze
	$(NEWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not interop and not faults and not container"

audit: $(VENV)/dev  ## known vulnerabilities of the tested versions, by pip-audit, which needs its database on the network
	$(PYTHON) -m venv .venvs/audit
	.venvs/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(PYTHON) -m pip freeze --exclude-editable > .venvs/audit/requirements.txt
	.venvs/audit/bin/python -m pip_audit --no-deps --disable-pip -r .venvs/audit/requirements.txt

bench: $(VENV)/core  ## the benchmarks of speed, quick versions: 3 minutes on 2 cores
	for name in train_step inference data_loading metrics growth; do $(PYTHON) benchmarks/$$name.py --quick || exit 1; done

# On a machine that has PyTorch for its GPU and no network: `make gpu-wheels` elsewhere, carry build/gpu along, `make gpu`.
GPU_PYTHON ?= python3
GPU_PACKAGES := monai pytorch-ignite nibabel fire termcolor pyyaml scipy scikit-image imageio lazy_loader tifffile psutil \
  tqdm pytest iniconfig pluggy packaging pygments importlib_resources

gpu-wheels:  ## gather in build/gpu what a machine with PyTorch alone lacks for `make gpu`
	rm -rf build/gpu
	$(GPU_PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -c constraints.txt \
	  --dest build/gpu/wheels $(GPU_PACKAGES)

gpu:  ## one prepared run on a GPU: tests, speed, a training: 8 minutes; it has not been run on a GPU
	test ! -d build/gpu/wheels || $(GPU_PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
	  --upgrade --target build/gpu/site build/gpu/wheels/*.whl
	PYTHONPATH=$(CURDIR):build/gpu/site $(GPU_PYTHON) benchmarks/gpu.py --output runs/gpu

lint: $(VENV)/dev  ## ruff and mypy
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

wheel: $(VENV)/core  ## the wheel of `common` in build/wheel: half a minute
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	rm -rf build/lib build/bdist.*

clean:  ## remove the virtual environment and all runs
	rm -rf $(VENV) .venvs runs
