# Each target that needs the virtual environment builds it first; a second call starts at once.
PYTHON ?= python3
PROTOCOL ?= quick
SEEDS ?= 0
DEPTHS ?=
ARMS ?=
JOBS ?=
NAME ?=
SETTINGS ?=
NETWORKS ?=
RESCUES ?=
SCALES ?=
PARTS ?=
ROUNDS ?=
SECONDS ?=
ARGS ?=
SURFACE ?= direction_seed=0,1,2 statistics=running,batch

empty :=
comma := ,
space := $(empty) $(empty)

# A misspelt variable would measure something else for hours
LEGAL := PYTHON PROTOCOL SEEDS DEPTHS ARMS JOBS NAME SETTINGS NETWORKS RESCUES SCALES PARTS ROUNDS SECONDS THOUSAND SURFACE ARGS \
  SHALLOW FORCE MISSING VERBOSE MARGIN MODEL DEPTH PICTURE ROOT LABEL WEIGHTS
UNKNOWN := $(filter-out $(LEGAL),$(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name))))
$(if $(strip $(UNKNOWN)),$(error plainres: $(strip $(UNKNOWN)) is no variable here; legal: $(LEGAL)))

# Variables of a few targets, which the others would pass over
FEW := MODEL:inspect PICTURE:inspect DEPTH:inspect,own-images ROOT:own-images LABEL:own-images WEIGHTS:own-images \
  SETTINGS:sweep-robustness,check-robustness NETWORKS:sweep-lineage RESCUES:sweep-autopsy SCALES:sweep-signal SURFACE:sweep-landscape \
  PARTS:bench ROUNDS:bench SECONDS:bench THOUSAND:bench MARGIN:check-depth
of = $(subst $(comma),$(space),$(word 2,$(subst :,$(space),$(1))))
$(foreach entry,$(FEW),$(foreach name,$(firstword $(subst :,$(space),$(entry))),$(if $(filter command line,$(origin $(name))),$(foreach \
  goal,$(filter-out $(call of,$(entry)),$(MAKECMDGOALS)),$(error plainres: $(goal) takes no $(name); it is for: $(call of,$(entry)))))))

BIN := .venv/bin
STAMP := .venv/.installed
list = $(subst $(space),$(comma),$(strip $(subst $(comma),$(space),$(1))))

DEPTH_LIST := $(call list,$(DEPTHS))
ifneq ($(SHALLOW),)
DEPTH_LIST := $(or $(DEPTH_LIST),110$(comma)56$(comma)44$(comma)32$(comma)20),14,8
endif
FOLDER := results/depth/$(or $(NAME),$(PROTOCOL))
SHORTCUTS := results/shortcuts/$(or $(NAME),$(PROTOCOL))
HOW := seed=$(call list,$(SEEDS)) $(if $(DEPTH_LIST),model.depth=$(DEPTH_LIST)) $(if $(JOBS),jobs=$(JOBS)) \
  $(if $(FORCE),force=true) $(if $(MISSING),missing=true) $(ARGS)
OVERRIDES := +experiment=depth protocol=$(PROTOCOL) $(if $(ARMS),model=$(call list,$(ARMS))) $(if $(NAME),folder=$(NAME)) $(HOW)
# A variable that a target would pass over
refuse = $(foreach name,$(1),$(if $(filter command line,$(origin $(name))),$(error plainres: $@ takes no $(name); ARGS='results_dir=<folder>' keeps results apart, ARGS= takes any other Hydra override)))
LANDSCAPE := protocol=$(PROTOCOL) $(if $(NAME),folder=$(NAME)) $(strip $(HOW))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n "s/^\([a-z-]*\):.*/\1/p" $(firstword $(MAKEFILE_LIST)))

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make sweep-depth [PROTOCOL=quick|cpu|paper|smoke] [SEEDS=0,1,2] [DEPTHS=20,56] [ARMS=plain] [SHALLOW=1] [JOBS=n]"
	@echo "                   [NAME=folder] [FORCE=1] [MISSING=1] [ARGS='any Hydra override']"
	@echo "  make sweep-robustness [SETTINGS=baseline,nesterov] [SEEDS=0] [JOBS=n] [FORCE=1] [MISSING=1] [ARGS='…']"
	@echo "  make bench [PARTS=columns,roofline] [ROUNDS=3] [SECONDS=5] [THOUSAND=1]"

install: $(STAMP) ## the virtual environment (.venv), with what tests and checks need

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "plainres: $(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: $(STAMP) ## all tests: offline, a few minutes
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

sweep-depth: $(STAMP) ## train what is not yet trained of the depth sweep, print verdicts, draw figures
	$(BIN)/python -m plainres.run.train -m $(strip $(OVERRIDES))
	@$(BIN)/python -m experiments.depth.figures $(FOLDER)
	@echo
	@$(BIN)/python -m experiments.depth.claims $(FOLDER) $(if $(DEPTHS),--depths $(call list,$(DEPTHS))); test $$? -le 1

check-depth: $(STAMP) ## verdicts on PROTOCOL's records (VERBOSE=1: what they rest on); status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.depth.claims $(FOLDER) $(if $(DEPTHS),--depths $(call list,$(DEPTHS))) $(if $(filter command line,$(origin SEEDS)),--seeds $(call list,$(SEEDS))) $(if $(MARGIN),--margin $(MARGIN)) $(if $(VERBOSE),--verbose)

sweep-robustness: $(STAMP) ## 20 and 56 layers with one choice changed at a time (conf/variants/setting.yaml; SETTINGS=…), then its table
	$(call refuse,PROTOCOL NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=robustness $(if $(SETTINGS),setting=$(call list,$(SETTINGS))) $(HOW)
	$(if $(SETTINGS),,$(BIN)/python -m plainres.run.train -m +experiment=robustness setting=baseline model=projection $(HOW))
	@$(BIN)/python -m experiments.robustness.figures results/robustness
	@$(MAKE) --no-print-directory check-robustness

check-robustness: $(STAMP) ## in how many settings degradation and its cure are seen
	@$(BIN)/python -m experiments.robustness.claims results/robustness

sweep-pace: $(STAMP) ## seconds to a training error by width, batch size and learning rate, then their table
	$(call refuse,PROTOCOL NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=pace $(strip $(HOW))
	@$(BIN)/python -m experiments.pace.figures results/pace
	@$(MAKE) --no-print-directory check-pace

check-pace: $(STAMP) ## which width, batch size and learning rate reach a training error soonest
	@$(BIN)/python -m experiments.pace.claims results/pace

sweep-lineage: $(STAMP) ## LeNet-5, AlexNet, VGG-16, plain, residual, SE under one protocol (conf/variants/network.yaml; NETWORKS=…)
	$(call refuse,PROTOCOL NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=lineage $(if $(NETWORKS),network=$(call list,$(NETWORKS))) $(HOW)
	@$(BIN)/python -m experiments.lineage.figures results/lineage
	@$(BIN)/python -m experiments.lineage.claims results/lineage; test $$? -le 1

check-lineage: $(STAMP) ## what each network of the lineage brought; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.lineage.claims results/lineage

sweep-lenet: $(STAMP) ## LeNet-5 on Fashion-MNIST and digits, with the parts of 1998 and with today's
	$(call refuse,PROTOCOL NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=lenet $(strip $(HOW))
	@$(BIN)/python -m experiments.lenet.figures results/lenet
	@$(BIN)/python -m experiments.lenet.claims results/lenet; test $$? -le 1

check-lenet: $(STAMP) ## how well LeNet-5 does; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.lenet.claims results/lenet

sweep-large: $(STAMP) ## AlexNet, VGG-16, GoogLeNet, Inception-v3, 18 to 152 layers at 224 to 299 pixels: 20 updates on one batch
	$(call refuse,PROTOCOL NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=large $(strip $(HOW))
	@$(BIN)/python -m experiments.large.figures results/large
	@$(BIN)/python -m experiments.large.claims results/large; test $$? -le 1

check-large: $(STAMP) ## whether the loss of the large networks falls; status 1 when one's does not
	@$(BIN)/python -m experiments.large.claims results/large

sweep-thousand: $(STAMP) ## residual networks of 110 to 1,202 layers beside plain-56, and their memory (PROTOCOL=quick|slow|cpu)
	$(call refuse,NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=thousand thousand=$(PROTOCOL) $(strip $(HOW))
	$(if $(DEPTHS),,$(BIN)/python -m plainres.run.train -m +experiment=thousand thousand=$(PROTOCOL) model=plain model.depth=56 $(strip $(HOW)))
	@# a process for each cell of memory: the peak is the process's; without the threshold, glibc keeps what was freed and its gaps count
	@for depth in 110 302 602 1202; do for part in stored recomputed; do \
	  MALLOC_MMAP_THRESHOLD_=65536 $(BIN)/python -m plainres.run.train +experiment=thousand thousand=$$part model.depth=$$depth $(if $(FORCE),force=true) || exit 1; done; done
	@$(BIN)/python -m experiments.thousand.figures results/thousand
	@$(BIN)/python -m experiments.thousand.claims results/thousand; test $$? -le 1

check-thousand: $(STAMP) ## whether a thousand layers train, and at what memory; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.thousand.claims results/thousand

sweep-landscape: $(STAMP) ## the loss around plain-56 and residual-56 on planes of random directions (SURFACE='direction_seed=0 points=31')
	$(call refuse,ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=landscape $(LANDSCAPE)
	$(BIN)/python -m plainres.instruments.landscape -m model=plain,residual $(SURFACE) $(LANDSCAPE)
	@$(BIN)/python -m experiments.landscape.figures results/landscape/$(or $(NAME),$(PROTOCOL))
	@$(BIN)/python -m experiments.landscape.claims results/landscape/$(or $(NAME),$(PROTOCOL)); test $$? -le 1

check-landscape: $(STAMP) ## which arm's loss surface is smoother under PROTOCOL; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.landscape.claims results/landscape/$(or $(NAME),$(PROTOCOL))

IDENTITY := results/identity/$(or $(NAME),$(PROTOCOL))

sweep-identity: $(STAMP) ## blocks put into trained networks (parents first), which train on; PROTOCOL=quick or cpu
	$(call refuse,ARMS)
	$(foreach generation,parent trained_on child decay,$(BIN)/python -m plainres.run.train -m +experiment=identity scale=$(PROTOCOL) \
	  generation=$(generation) $(if $(NAME),vars.scale=$(NAME)) $(HOW) &&) true
	@$(BIN)/python -m experiments.identity.figures $(IDENTITY)
	@$(BIN)/python -m experiments.identity.claims $(IDENTITY); test $$? -le 1

check-identity: $(STAMP) ## whether extra blocks do no harm; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.identity.claims $(IDENTITY)

sweep-shortcuts: $(STAMP) ## options A, B and C, half of A, A in every second block, none (PROTOCOL=, ARMS=…), then verdicts
	$(BIN)/python -m plainres.run.train -m +experiment=shortcuts protocol=$(PROTOCOL) $(strip $(if $(ARMS),model=$(call list,$(ARMS))) $(if $(NAME),folder=$(NAME)) $(HOW))
	@$(BIN)/python -m experiments.shortcuts.figures $(SHORTCUTS)
	@$(BIN)/python -m experiments.shortcuts.claims $(SHORTCUTS); test $$? -le 1

check-shortcuts: $(STAMP) ## whether it matters which shortcut; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.shortcuts.claims $(SHORTCUTS) $(if $(VERBOSE),--verbose)

sweep-autopsy: $(STAMP) ## plain-110 with one remedy at a time (conf/variants/rescue.yaml; PROTOCOL=quick|cpu, RESCUES=…), then verdicts
	$(call refuse,NAME ARMS)
	$(BIN)/python -m plainres.run.train -m +experiment=autopsy protocol=$(PROTOCOL) $(strip $(if $(RESCUES),rescue=$(call list,$(RESCUES))) $(HOW))
	@$(BIN)/python -m experiments.autopsy.figures results/autopsy
	@$(BIN)/python -m experiments.autopsy.claims results/autopsy --base $(PROTOCOL); test $$? -le 1

check-autopsy: $(STAMP) ## what ails plain-110 under PROTOCOL (quick|cpu|cpu16|cpu32|paper), and what rescues it; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.autopsy.claims results/autopsy --base $(PROTOCOL) $(if $(VERBOSE),--verbose)

sweep-signal: $(STAMP) ## responses and gradients layer by layer, with and without batch normalisation (SCALES=start,start32,start32_pytorch,quick,cpu)
	$(call refuse,PROTOCOL NAME ARMS)
	$(foreach scale,$(subst $(comma),$(space),$(or $(SCALES),start start32 start32_pytorch quick)),$(BIN)/python -m plainres.run.train -m +experiment=signal signal=$(scale) $(strip $(HOW)) && )true
	@$(BIN)/python -m experiments.signal.figures results/signal
	@$(BIN)/python -m experiments.signal.claims results/signal; test $$? -le 1

check-signal: $(STAMP) ## whether gradients vanish, responses shrink, gradients shatter; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.signal.claims results/signal

power: $(STAMP) ## how often the verdicts are right, by simulation from PROTOCOL's records
	@$(BIN)/python -m experiments.depth.simulation $(FOLDER)

bench: $(STAMP) ## what training costs: speed, memory, start-up, scaling, each part into results/bench; about 45 minutes
	$(BIN)/python -m experiments.bench.run $(strip $(if $(PARTS),--parts $(call list,$(PARTS))) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(THOUSAND),--thousand))

figures: $(STAMP) ## all figures and result READMEs again, from the committed tables
	@$(BIN)/python -m experiments.__main__ figures

why: $(STAMP) ## of these those that explain: identity, signal, shortcuts, autopsy, thousand, landscape
	@$(BIN)/python -m experiments.__main__ figures why

check: $(STAMP) ## the verdicts of every question that has committed tables; status 1 when a claim is contradicted
	@$(BIN)/python -m experiments.__main__ check

inspect: $(STAMP) ## MODEL layer by layer: shapes, parameters, multiply-adds, receptive fields (PICTURE=file.png, DEPTH=, ARGS=)
	$(call refuse,PROTOCOL NAME ARMS SEEDS DEPTHS)
	@$(BIN)/python -m plainres.instruments.inspect model=$(or $(MODEL),residual) $(if $(DEPTH),model.depth=$(DEPTH)) $(if $(PICTURE),picture=$(PICTURE)) $(ARGS)

networks: $(STAMP) ## the same of every network of the lineage, with pictures, into results/networks
	@mkdir -p results/networks
	@for model in lenet5 alexnet vgg googlenet inception_v3 residual se plain_imagenet residual_imagenet se_imagenet lenet5,model.era=1998; do \
	  name=$$(echo $$model | sed 's/,.*=/_/'); \
	  $(BIN)/python -m plainres.instruments.inspect model=$$(echo $$model | tr , ' ') picture=results/networks/$$name.png > results/networks/$$name.txt || exit 1; \
	  echo results/networks/$$name.txt results/networks/$$name.png; done

example-images: $(STAMP) ## a folder to try own-images with, data/photographs: squares out of two photographs that come with scikit-learn
	@$(BIN)/python -m plainres.data.example_images data/photographs

own-images: $(STAMP) ## fine-tune a network of 18 layers on your pictures: ROOT=folder LABEL=name (DEPTH=, WEIGHTS=imagenet|null, ARGS=)
	$(call refuse,PROTOCOL ARMS DEPTHS)
	@test -n "$(ROOT)" -a -n "$(LABEL)" || { echo "plainres: make own-images needs ROOT=<folder or archive with train/<class>/ and test/<class>/> and LABEL=<name>; make example-images writes a folder to try" >&2; exit 1; }
	@weights=$(or $(WEIGHTS),$$($(BIN)/python -c "from plainres.networks.resnet import imagenet_weights_file as file; print('imagenet' if file($(or $(DEPTH),18)).exists() else 'null')" 2>/dev/null || echo null)); \
	case $$weights in null) echo "from scratch: no ImageNet weights are taken (WEIGHTS=imagenet downloads them)";; *) echo "from torchvision's weights: $$weights";; esac; \
	set -x; $(BIN)/python -m plainres.run.train $(if $(findstring $(comma),$(call list,$(SEEDS))),-m) slug=own protocol=finetune folder='"$(or $(NAME),$(LABEL))"' \
	  data=image_folder data.root='"$(ROOT)"' data.label='"$(LABEL)"' model=residual_imagenet model.depth=$(or $(DEPTH),18) model.weights=$$weights \
	  seed=$(call list,$(SEEDS)) $(if $(FORCE),force=true) $(if $(JOBS),jobs=$(JOBS)) keep_weights=true $(ARGS)

tensorboard: $(STAMP) ## curves of every run on this machine, at http://localhost:6006
	$(BIN)/tensorboard --logdir results

clean: ## runs, caches and the virtual environment; committed results stay
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache results/*/*/runs results/*/*/*/runs
	find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
