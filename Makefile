# make demo    the whole pipeline on this machine, ten minutes at most
# make test    the default tests, then those with the real parts
# make env     only the environment, in .venv
# make lock    resolves the lock files anew (needs uv)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo gpu || echo cpu)
TORCH ?= torch==2.13.0
LOCK := deploy/requirements/$(PROFILE).txt
ENV := .venv/.installed-$(PROFILE)

.PHONY: demo test env lock lint

demo: env
	.venv/bin/winnow train deploy/runs/demo.toml

test: env
	.venv/bin/python -m pytest -q
	.venv/bin/python -m pytest -q -m ray

env: $(ENV)

$(ENV): $(LOCK) pyproject.toml
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install -q --disable-pip-version-check "$(TORCH)"
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

UV := uv pip compile pyproject.toml --extra test --generate-hashes --no-header --python-version 3.11
lock:
	$(UV) --extra cpu --override deploy/requirements/cpu-overrides.txt -o deploy/requirements/cpu.txt \
		--python-platform x86_64-manylinux_2_28
	$(UV) --extra gpu --override deploy/requirements/gpu-overrides.txt -o deploy/requirements/gpu.txt \
		--python-platform x86_64-manylinux_2_28
