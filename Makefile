# make demo    the whole pipeline on this machine, about five minutes
# make paper   eight methods, six seeds each: the comparison of arXiv 2504.11343 in miniature, and its findings held against
#              it, in runs/paper/; made again after an interruption it goes on (SEEDS=1 is shorter, and can go on to more)
# make sources the methods of other papers in that world, one seed each, a smaller budget (docs/methods.md)
# make test    the default tests, then the slow ones, then those with the real parts
# make env     only the environment, in .venv
# make lock    resolves the lock files anew (needs uv)
# make verify-bench the verifiers: cases right, programs passed, attacks stopped, throughput
# make gpu-test what needs GPUs, a report in runs/gpu-test/ (PYTHON_GPU=python3 takes what is installed, without make env)
# make faults  more than a hundred faults into real runs, an hour or more: a table in runs/faults/ (FAULTS="--short": seven)
# make soak    a thousand steps: what memory, file handles and threads gain, in runs/soak/ (SOAK="--steps 200" is shorter)
# make bench   all benchmarks, at most 23 minutes on two idle cores: a run in runs/bench/runs/, and the page of all of them,
#              runs/bench/report.html (BENCH=--short: six minutes, whether ratios fell since they were recorded)
# make bench-env    another implementation of the losses (TRL) in .venv-bench
# make bench-agree  the losses on random batches against it
# make others-env   packages of other projects (gymnasium, TRL, ...) in .venv-others, beside what .venv has
# make others-test  their environments, played, and a short run on puzzles
# make papers-quick the recipes of examples/papers, two steps each and two at a time: whether they run (about 20 minutes)
# make docs    the documentation as a site, in runs/docs/site/: links and headings checked, nothing from other hosts

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo gpu || echo cpu)
TORCH ?= torch==2.13.0
LOCK := deploy/requirements/$(PROFILE).txt
ENV := .venv/.installed-$(PROFILE)
BENCH_LOCK := deploy/requirements/bench.txt
BENCH_ENV := .venv-bench/.installed
OTHERS_LOCK := deploy/requirements/others.txt
OTHERS_ENV := .venv-others/.installed
DOCS_LOCK := deploy/requirements/docs.txt
DOCS_ENV := .venv-docs/.installed

.PHONY: demo paper sources test env lock lint verify-bench gpu-test faults soak bench bench-env bench-agree \
	others-env others-test papers-quick docs docs-env

demo: env
	.venv/bin/winnow train deploy/runs/demo.toml

METHODS := reinforce reinforce-drop-all-wrong reinforce-drop-all-correct reinforce-rej reinforce-rej-replaced grpo \
	raft++ raft
SEEDS ?= 6
paper: env
	.venv/bin/winnow compare $(METHODS:%=deploy/runs/paper/%.toml) --seeds $(SEEDS) --name paper --resume \
		--title "From rejection sampling to Reinforce, in miniature"
	.venv/bin/python -m tests.bench.paper runs/paper

SOURCES := reinforce maxrl distill self-critical rloo loop stable-reinforce rest topr quark prime reft nlpo rto \
	reinforce-baseline
sources: env
	.venv/bin/winnow train deploy/runs/sources/before/tuned.toml
	.venv/bin/winnow train deploy/runs/sources/before/teacher.toml
	.venv/bin/winnow compare $(SOURCES:%=deploy/runs/sources/%.toml) --seeds 1 --name sources \
		--title "The methods of the source papers, in miniature"

# Tests of one file share what they have started, so a file is run by one process, in the order of tests/conftest.py.
PROCESSES ?= 2
PYTEST := .venv/bin/python -m pytest -q --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
test: env
	$(PYTEST) --durations=15
	$(PYTEST) --durations=15 -m slow
	$(PYTEST) --durations=60 -m ray

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

verify-bench: env
	.venv/bin/python -m tests.bench.verify

# Another interpreter than that of the environment needs only torch, triton, transformers, pyarrow, pydantic, safetensors
# and DeepSpeed; what needs more is skipped.
PYTHON_GPU ?= .venv/bin/python
gpu-test: $(if $(filter .venv/bin/python,$(PYTHON_GPU)),env)
	$(PYTHON_GPU) -W ignore -m tests.gpu.run $(TRIALS)

faults: env
	.venv/bin/python -W ignore -m tests.faults.run $(FAULTS)

soak: env
	.venv/bin/python -W ignore -m tests.faults.soak $(SOAK)

bench: env bench-env
	.venv/bin/python -W ignore -m tests.bench.run $(BENCH)

# Its own packages come first, and behind them those of .venv, as for .venv-others: TRL finds torch and vLLM there.
SITE := python -c "import sysconfig; print(sysconfig.get_path('purelib'))"
bench-env: $(BENCH_ENV)

$(BENCH_ENV): $(BENCH_LOCK) $(ENV)
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(BENCH_LOCK)
	.venv/bin/$(SITE) > "$$(.venv-bench/bin/$(SITE))/winnow.pth"
	touch $@

bench-agree: bench-env
	HF_HUB_OFFLINE=1 .venv-bench/bin/python -W ignore -m tests.bench.agree

others-env: $(OTHERS_ENV)

$(OTHERS_ENV): $(OTHERS_LOCK) $(ENV)
	$(PYTHON) -m venv --clear .venv-others
	.venv-others/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(OTHERS_LOCK)
	.venv/bin/$(SITE) > "$$(.venv-others/bin/$(SITE))/winnow.pth"
	touch $@

others-test: others-env
	.venv-others/bin/python -m pytest -q -m "" tests/actors/rollouts/others tests/project/test_environments.py \
		tests/project/test_moving.py tests/examples/test_puzzles.py

papers-quick: env
	.venv/bin/python -W ignore -m examples.papers.run --quick

docs-env: $(DOCS_ENV)

$(DOCS_ENV): $(DOCS_LOCK)
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(DOCS_LOCK)
	touch $@

# The pages lie in the site as they lie here, so that a link which works here works there.
SITE_DIR := runs/docs
docs: docs-env
	rm -rf $(SITE_DIR)
	mkdir -p $(SITE_DIR)/pages
	cp -R --parents *.md docs examples deploy $(SITE_DIR)/pages
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build -q --strict
	.venv-docs/bin/python -m tests.project.site $(SITE_DIR)/site
	@echo "look at it: $(PYTHON) -m http.server -d $(SITE_DIR)/site 8000, then http://127.0.0.1:8000"
