# Every target that needs the virtual environment makes it first. Variables of the command line
# (PROTOCOL=cpu SEEDS=0,1), and no others, are handed to the command as they were typed; it refuses
# those it does not know: .venv/bin/plainres --help. make itself ends with 2 whatever went wrong.
PYTHON = python3
BIN := .venv/bin
STAMP := .venv/.installed
PLAINRES = $(BIN)/python -m experiments
GIVEN = $(foreach n,$(sort $(.VARIABLES)),$(if $(filter command,$(origin $n)),$n))
QUOTED = '$(subst ','\'',$1=$(value $1))'
VERBS = check figures report inspect own-images classify publish power bench deviations \
	status tensorboard
VARIABLES = $(foreach n,$(GIVEN),$(call QUOTED,$n))

.DEFAULT_GOAL := help
.PHONY: install test lint $(VERBS) torture clean help

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z%<>-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make sweep-depth PROTOCOL=quick|cpu|cpu32|paper SEEDS=0,1,2 DEPTHS=20,56"
	@echo "                   ARMS=plain JOBS=2 SHALLOW=1 NAME=folder MISSING=1 FORCE=1 ARGS='any Hydra override'"
	@echo "                   on a cluster: LAUNCHER=slurm PARTITION=gpu GPUS=1 HOURS=4 (docs/cluster.md)"
	@echo "  .venv/bin/plainres sweep --help lists the questions and all options"

install: $(STAMP) ## the virtual environment (.venv), with what tests and checks need

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "plainres: $(PYTHON) cannot make a \
	virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,kernels]'
	@touch $@

test: $(STAMP) ## all tests but those of a cluster: offline, a few minutes
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile \
		--no-loadscope-reorder -m 'not slurm'

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sweep-%: $(STAMP) ## sweep-<question>: train what is not yet trained, then figures and verdicts
	@$(PLAINRES) sweep $* $(VARIABLES)

estimate-%: $(STAMP) ## estimate-<question>: what the sweep will cost (DEVICE=h100 DEVICES=8)
	@$(PLAINRES) estimate $* $(VARIABLES)

check-%: $(STAMP) ## check-<question>: verdicts in detail (VERBOSE=1, LATEX=1, LOCAL=1)
	@$(PLAINRES) check $* $(VARIABLES)

check: ## all verdicts, one line each (STRICT=1: fails if one is not reproduced)
figures: ## all figures and results READMEs again, from the committed tables
report: ## one page that shows everything, to open in a browser
inspect: ## MODEL=alexnet layer by layer (DEPTH=, PICTURE=file.png; ALL=1: every network)
own-images: ## fine-tune on your pictures: ROOT=folder LABEL=name, or EXAMPLE=folder
status: ## what the sweeps of this machine are doing (FOLLOW=1: until they have ended; JSON=1)
classify: ## PICTURE=file or folder: what your network takes it for (RESULTS=own/name)
publish: ## add your cells to the committed tables, or replace rows (RESULTS=depth/quick)
power: ## how often the verdicts of depth are right; writes power.csv (PROTOCOL=cpu)
bench: ## what training costs, about an hour (PARTS=columns,startup)
deviations: ## in what each protocol differs from the paper (PROTOCOL=paper: one in full)
tensorboard: ## curves of depth and of running cells at http://localhost:6006 (RESULTS=shortcuts/quick: others; PORT=)
$(VERBS): $(STAMP)
	@$(PLAINRES) $@ $(VARIABLES)

torture: $(STAMP) ## faults on purpose, counted, 20 minutes (KINDS=flip,cut SEED=1: a part, kept local)
	@$(PLAINRES) torture --out results/$(if $(GIVEN),local/)torture $(VARIABLES)

clean: ## runs, trained networks, caches and the virtual environment; tables stay
	@if $(PLAINRES) status JSON=1 2>/dev/null | grep -q '"running": true'; then \
	echo "plainres: a sweep is running; make status names it" >&2; exit 1; fi
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache results/local/events
	rm -rf results/local/*/*/runs results/local/*/*/*/runs
	find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
