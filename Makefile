# The one door: make run, make test, make check. Everything is installed from hash-locked lists into .venv.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
DATA   ?= ../shared/data
LITE   := runs/lite
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-index-url \
          --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock"

.PHONY: run test check lint lite benchmark ablations leave-one-out external bench fuzz torture audit data expected lock clean help

run: $(VENV)/.run  ## score the fixture with weights/lite and print a table
	@$(BIN)/python inference.py --input test/input/interf0 --output test/output --weights weights/lite --table

test: $(VENV)/.dev  ## the whole test suite
	$(BIN)/python -m pytest

check: lint test  ## what CI runs

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p model -p scoring -p train -p bench -p supply -p fuzz -p torture
	$(BIN)/mypy inference.py serve.py
	$(BIN)/shellcheck *.sh

# Rebuild the bundle in git from the published AMi-Br and AtNorM-Br crops under DATA, on whatever this machine has.
lite: data
	@start=$$(date +%s); \
	$(BIN)/python -m train run --data runs/data --out $(LITE) --preset lite --hold-out source=AtNorM-Br && \
	$(BIN)/python -m train evaluate --study $(LITE) --out docs/results/lite && \
	$(BIN)/python -m train publish --study $(LITE) --out weights/lite && \
	echo "make lite took $$(( ($$(date +%s) - start) / 60 )) minutes"

# The published AMi-Br benchmark's own split: train part → test part and AtNorM-Br.
benchmark: data
	$(BIN)/python -m train run --data runs/data --out runs/benchmark --preset lite \
	    --hold-out part=test --hold-out source=AtNorM-Br
	$(BIN)/python -m train evaluate --study runs/benchmark --out docs/results/ami-br-benchmark

# One change to the preset a row, on the benchmark's split; MEMBERS=5 fits all five folds of each.
MEMBERS   ?= 1
ABLATIONS := lite lite-focal lite-no-stain lite-half-stain lite-double-stain lite-no-weighted-sampling lite-cnn lite-vit
ablations: data
	for preset in $(ABLATIONS); do \
	    $(BIN)/python -m train run --data runs/data --out runs/ablations/$$preset --preset $$preset \
	        --members $(MEMBERS) --hold-out part=test --hold-out source=AtNorM-Br || exit 1; \
	done
	$(BIN)/python -m train evaluate --study $(ABLATIONS:%=runs/ablations/%) --out docs/results/ablations

# Each of the three cohorts at hand left out in turn, with a network of 96 px: 15 members.
leave-one-out: data
	$(BIN)/python -m train run --data runs/data --out runs/leave-one-out --preset lite --set epochs=30 \
	    --set input.size_px=96 --leave-one-out cohort
	$(BIN)/python -m train evaluate --study runs/leave-one-out --out docs/results/leave-one-out

# weights/lite on AtNorM-Br, which it never saw, as published: 746 crops, duplicates included.
external: $(VENV)/.run
	$(BIN)/python -m scoring predict --crops $(DATA)/AtNorM-Br --weights weights/lite --out docs/results/atnorm-br/predictions.csv
	$(BIN)/python -m scoring evaluate --predictions docs/results/atnorm-br/predictions.csv --labels folders \
	    --out docs/results/atnorm-br
	$(BIN)/python -m scoring report --predictions docs/results/atnorm-br/predictions.csv --labels folders \
	    --crops $(DATA)/AtNorM-Br --weights weights/lite --out runs/atnorm-br.html
	$(BIN)/python -m scoring stress --crops $(DATA)/AtNorM-Br --labels folders --weights weights/lite \
	    --out docs/results/atnorm-br/stress

# Speed against the reference loop and the limits, and what each precision changes: lite, and L2 with random weights.
bench: $(VENV)/.dev runs/l2-random
	for weights in weights/lite runs/l2-random; do \
	    $(BIN)/python -m bench.speed --weights $$weights --out bench/results/speed-$$(basename $$weights).json && \
	    $(BIN)/python -m bench.precision --weights $$weights --crops $(DATA)/AtNorM-Br \
	        --out bench/results/precision-$$(basename $$weights).json && \
	    $(BIN)/python -m bench.invoke --weights $$weights --rounds 5 --out bench/results/invoke-$$(basename $$weights).json || exit 1; \
	done
	$(BIN)/python -m bench.memory --weights weights/lite --crops 1 10 100 1000 10000 --out bench/results/predict-growth.json

runs/l2-random: | $(VENV)/.dev
	$(BIN)/python -m bench.bundles --architecture efficientvit_l2 --size-px 256 --crops $(DATA)/AtNorM-Br --out $@

data: $(VENV)/.dev
	$(BIN)/python -m train prepare --out runs/data --atnorm-br $(DATA)/AtNorM-Br \
	    --ami-br $(DATA)/AMi-Br $(DATA)/labels/AMI-BR.csv $(DATA)/labels/amibr_train_split.csv

MINUTES ?= 5
fuzz: $(VENV)/.dev  ## hostile files for every reader of outside data, MINUTES=5 in all
	$(BIN)/python -m fuzz --minutes $(MINUTES)

torture: $(VENV)/.dev  ## kill, corrupt and repeat for long; what came of it stands in docs/results/torture.json
	$(BIN)/python -m torture --out docs/results/torture.json

audit: $(VENV)/.dev  ## licences and known vulnerabilities of what is shipped
	$(BIN)/python -m supply.licences
	$(BIN)/python -m supply.vulnerabilities

expected: $(VENV)/.run  ## the fixture's expected result, made anew after weights/lite or the fixture changed
	$(BIN)/python inference.py --input test/input/interf0 --output test/expected/interf0 --weights weights/lite --device cpu

lock: $(VENV)/.dev  ## compile every requirements.in anew, to the newest versions it admits
	$(COMPILE) --upgrade requirements.in -o requirements.txt
	$(COMPILE) --upgrade train/requirements.in -o train/requirements.txt
	$(COMPILE) --upgrade requirements-dev.in -o requirements-dev.txt

help:  ## the daily targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1: \2/p' Makefile

clean:
	rm -rf $(VENV) test/output dist

$(VENV)/.run: requirements.txt
	@echo "installing the locked requirements into $(VENV), about 8 GB; this takes some minutes and prints nothing"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@
