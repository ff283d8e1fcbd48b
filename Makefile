# One place for every command: make run, make test, make check. Everything is installed into .venv from hash-locked lists.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
LITE   := runs/lite
DETECTOR := runs/detector-lite
# Where it is set, each process compiles torch's files anew: 9 s to import it instead of 2.
unexport PYTHONDONTWRITEBYTECODE
SHORT = $(if $(EPOCHS),--set epochs=$(EPOCHS))  # of ablations: EPOCHS=6
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-index-url \
          --no-strip-extras --python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" $(UPGRADE)

# Tests that make test leaves out: they need minutes, or a program that many machines lack.
SLOW   := slow or long or docker or browser or slurm
# Two processes of one thread each are faster on two cores than one of two.
PYTEST  = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: run run-detector expected-detector test coverage long check most lint docs lite detector-lite republish benchmark ablations detector-ablations detector-sizes leave-one-out external bench fuzz torture audit data \
        expected lock clean help need-data fields

run: $(VENV)/.run  ## classify the test stack with weights/lite and print a table
	@$(BIN)/python inference.py --input test/input/interf0 --output test/output --weights weights/lite --table

# The picture lies beside the output's folder: the platform uploads all that is in it.
run-detector: $(VENV)/.run  ## detect in the test region with weights/detector-lite; a table, and test/output/region0.png
	@$(BIN)/python inference.py --input test/input/region0 --output test/output/region0 --weights weights/detector-lite --table
	@$(BIN)/python -m tools.overlay test/output/region0/mitotic-figures.json test/input/region0/images/*/*.tiff test/output/region0.png

test: $(VENV)/.dev  ## the fast tests, some minutes
	$(PYTEST) -n 2 --dist loadfile --timeout 180 -m "not ($(SLOW))"

coverage: $(VENV)/.dev  ## the fast tests, and the share of the lines that they run (at least 90 %)
	$(PYTEST) -n 2 --dist loadfile --timeout 300 -m "not ($(SLOW))" --cov --cov-report=term

check: $(VENV)/.dev  ## lint, types, docs and all tests but the long ones: what CI runs
	$(MAKE) -j 3 lint docs most
	$(PYTEST) --timeout 900 -m docker test/container

most: $(VENV)/.dev
	$(PYTEST) -n 2 --dist loadfile --timeout 900 -m "not (docker or long)"

long: $(VENV)/.dev  ## the tests that take minutes each: benchmarks, kills, full disks; before a release
	$(PYTEST) --timeout 1800 -m long

lint: $(VENV)/.dev  ## ruff, mypy, shellcheck
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p mitoscope -p model -p tools -p fuzz -p torture
	$(BIN)/mypy inference.py serve.py
	$(BIN)/shellcheck *.sh .ci/run

docs: $(VENV)/.dev  ## the guides and the API reference as a web site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The published crops: a folder with AMi-Br/, AtNorM-Br/ and labels/ (docs/train.md).
need-data:
	$(if $(DATA),,$(error DATA is missing: run make $(MAKECMDGOALS) DATA=FOLDER, the folder of the published crops (docs/train.md)))

data: need-data $(VENV)/.dev
	$(BIN)/mitoscope train prepare --out runs/data --atnorm-br $(DATA)/AtNorM-Br \
	    --ami-br $(DATA)/AMi-Br $(DATA)/labels/AMI-BR.csv $(DATA)/labels/amibr_train_split.csv

lite: data  ## train weights/lite again; needs DATA=FOLDER
	@start=$$(date +%s); \
	$(BIN)/mitoscope train run --data runs/data --out $(LITE) --preset lite --hold-out source=AtNorM-Br && \
	$(BIN)/mitoscope train evaluate --study $(LITE) --out docs/results/lite && \
	$(BIN)/mitoscope train publish --study $(LITE) --out weights/lite && \
	echo "make lite took $$(( ($$(date +%s) - start) / 60 )) minutes"

republish: data  ## write the manifest and the card of weights/lite again, not its weights; needs DATA=FOLDER
	$(BIN)/mitoscope train publish --bundle weights/lite --data runs/data --hold-out source=AtNorM-Br --out weights/lite

# Fields of slides from one hospital, canine tissue without figures, and crops of figures from other slides (docs/adr/0023).
FIELDS = --mpp 0.25 --mitos14 $(DATA)/detection/mitos14 --icpr12 $(DATA)/detection/icpr12 --yolo $(DATA)/detection/cmc \
         --ami-br $(DATA)/AMi-Br $(DATA)/labels/AMI-BR.csv
fields: need-data $(VENV)/.dev
	$(BIN)/mitoscope train prepare --out runs/fields --preset detector-lite $(FIELDS)

detector-lite: fields  ## train weights/detector-lite again; needs DATA=FOLDER
	@start=$$(date +%s); \
	$(BIN)/mitoscope train run --data runs/fields --out $(DETECTOR) --preset detector-lite --whole && \
	$(BIN)/mitoscope train evaluate --study $(DETECTOR) --out docs/results/detection/lite && \
	$(BIN)/mitoscope train publish --study $(DETECTOR) --out weights/detector-lite --whole && \
	echo "make detector-lite took $$(( ($$(date +%s) - start) / 60 )) minutes"

# The published AMi-Br benchmark's own split: train part → test part and AtNorM-Br.
benchmark: data  ## the benchmark table; needs DATA=FOLDER
	$(BIN)/mitoscope train run --data runs/data --out runs/benchmark --preset lite \
	    --hold-out part=test --hold-out source=AtNorM-Br
	$(BIN)/mitoscope train evaluate --study runs/benchmark --out docs/results/ami-br-benchmark

# One change to the preset for each row, on the benchmark's split; MEMBERS=5 fits all five folds of each, EPOCHS=7 takes half the time.
MEMBERS   ?= 1
ABLATIONS := lite lite-focal lite-no-stain lite-half-stain lite-double-stain lite-no-weighted-sampling lite-no-imagenet \
             lite-no-orientations lite-no-votes lite-no-subclasses
ablations: data  ## one change to the recipe at a time; needs DATA=FOLDER
	for preset in $(ABLATIONS); do \
	    $(BIN)/mitoscope train run --data runs/data --out runs/ablations/$$preset --preset $$preset \
	        --members $(MEMBERS) $(SHORT) --hold-out part=test --hold-out source=AtNorM-Br || exit 1; \
	done
	$(BIN)/mitoscope train evaluate --study $(ABLATIONS:%=runs/ablations/%) --out docs/results/ablations

# The same for the detector, with the organisers' kind of baseline, and three that have fields of their own: at twice and at half the resolution, and with
# hard negatives that the five networks of make detector-lite mined, each in slides that it never saw (nobody looked at them; four of these
# networks saw the labels of fold 0, on which the row is scored). The last
# command compares the sets of weights of the first study: raw, each average, all averages together, eight orientations.
DETECTOR_ABLATIONS := detector-lite $(addprefix detector-lite-,any-patch no-look-alikes mosaic no-imagenet no-density) fcos
detector-ablations: fields  ## one change to the detector's recipe at a time, after make detector-lite; needs DATA=FOLDER
	$(BIN)/mitoscope train mine --study $(DETECTOR) --out runs/mined
	$(BIN)/mitoscope train prepare --out runs/fields-mined --preset detector-lite $(FIELDS) --mined runs/mined/truth.csv
	for preset in $(DETECTOR_ABLATIONS); do \
	    $(BIN)/mitoscope train run --data runs/fields --out runs/detector-ablations/$$preset --preset $$preset \
	        --members $(MEMBERS) $(SHORT) || exit 1; \
	done
	for size in fine coarse; do \
	    $(BIN)/mitoscope train prepare --out runs/fields-$$size --preset detector-lite-$$size $(FIELDS) && \
	    $(BIN)/mitoscope train run --data runs/fields-$$size --out runs/detector-ablations/detector-lite-$$size \
	        --preset detector-lite-$$size --members $(MEMBERS) $(SHORT) || exit 1; \
	done
	$(BIN)/mitoscope train run --data runs/fields-mined --out runs/detector-ablations/detector-lite-mined \
	    --preset detector-lite --members $(MEMBERS) $(SHORT)
	$(BIN)/mitoscope train run --data runs/fields --out runs/detector-ablations/detector-lite-seed1 \
	    --preset detector-lite --members $(MEMBERS) $(SHORT) --set seed=1
	$(BIN)/mitoscope train evaluate --study $(addprefix runs/detector-ablations/,$(DETECTOR_ABLATIONS) detector-lite-fine detector-lite-coarse detector-lite-mined detector-lite-seed1) \
	    --out docs/results/detection/ablations
	$(BIN)/mitoscope train evaluate --study runs/detector-ablations/detector-lite --tta --out docs/results/detection/ablations/weights

# Why do larger detectors do worse (Marzahl et al., arXiv 2508.19804)? Three sizes, each on a quarter, half and all of the fields: small
# patches, few epochs, no weights to start from. The picture shows the validation loss.
SIZES  := rtmdet_tiny rtmdet_s rtmdet_m
SHARES := 0.25 0.5 1.0
detector-sizes: fields  ## detectors of three sizes on three shares of the fields; needs DATA=FOLDER
	for network in $(SIZES); do for share in $(SHARES); do \
	    $(BIN)/mitoscope train run --data runs/fields --out runs/detector-sizes/$$network-$$share --preset detector-lite --members $(MEMBERS) \
	        --set architecture=$$network --set pretrained=false --set backbone_rate=1.0 --set data_share=$$share --set epochs=$(or $(EPOCHS),6) \
	        --set input.crop_px=128 --set input.size_px=128 || exit 1; \
	done; done
	$(BIN)/mitoscope train evaluate --study $(foreach size,$(SIZES),$(SHARES:%=runs/detector-sizes/$(size)-%)) \
	    --out docs/results/detection/sizes

# Each of three cohorts is left out once: MEMBERS networks each.
leave-one-out: data  ## one cohort left out at a time; needs DATA=FOLDER
	$(BIN)/mitoscope train run --data runs/data --out runs/leave-one-out --preset lite --leave-one-out cohort \
	    --members $(MEMBERS)
	$(BIN)/mitoscope train evaluate --study runs/leave-one-out --out docs/results/leave-one-out --misses

# As published: 746 crops, duplicates included.
external: need-data $(VENV)/.run  ## weights/lite on AtNorM-Br, which it never saw; needs DATA=FOLDER
	$(BIN)/mitoscope classify --crops $(DATA)/AtNorM-Br --weights weights/lite --out docs/results/atnorm-br/predictions.csv
	$(BIN)/mitoscope evaluate --predictions docs/results/atnorm-br/predictions.csv --labels folders --out docs/results/atnorm-br
	$(BIN)/mitoscope report --predictions docs/results/atnorm-br/predictions.csv --labels folders \
	    --crops $(DATA)/AtNorM-Br --weights weights/lite --out runs/atnorm-br.html
	$(BIN)/mitoscope stress --crops $(DATA)/AtNorM-Br --labels folders --weights weights/lite --out docs/results/atnorm-br/stress

# weights/lite, and L2 with random weights, beside the reference loop and the processor's limits; and what each precision changes.
bench: need-data $(VENV)/.dev runs/l2-random  ## speed, measured side by side; needs DATA=FOLDER
	for weights in weights/lite runs/l2-random; do \
	    $(BIN)/python -m tools.bench.speed --weights $$weights --out tools/bench/results/speed-$$(basename $$weights).json && \
	    $(BIN)/python -m tools.bench.precision --weights $$weights --crops $(DATA)/AtNorM-Br \
	        --out tools/bench/results/precision-$$(basename $$weights).json && \
	    $(BIN)/python -m tools.bench.invoke --weights $$weights --rounds 5 \
	        --out tools/bench/results/invoke-$$(basename $$weights).json || exit 1; \
	done
	$(BIN)/python -m tools.bench.memory --weights weights/lite --crops 1 10 100 1000 10000 \
	    --out tools/bench/results/predict-growth.json
	$(BIN)/python -m tools.bench.detect --weights weights/detector-lite --against fcos_tf_efficientnet_lite0 \
	    --out tools/bench/results/detect-detector-lite.json
	$(BIN)/python -m tools.bench.detect --architecture rtmdet_s --against torchvision \
	    --out tools/bench/results/detect-rtmdet-s.json

runs/l2-random: | need-data $(VENV)/.dev
	$(BIN)/python -m tools.bench.bundles --architecture efficientvit_l2 --size-px 256 --crops $(DATA)/AtNorM-Br --out $@

MINUTES ?= 5
fuzz: $(VENV)/.dev  ## hostile files for every reader of outside data, MINUTES=5 in all
	PYTHONPATH=test $(BIN)/python -m fuzz --minutes $(MINUTES)

torture: $(VENV)/.dev  ## runs killed, bytes damaged, results repeated; counted in docs/results/torture.json
	PYTHONPATH=test $(BIN)/python -m torture --out docs/results/torture.json

audit: $(VENV)/.dev  ## licences and known vulnerabilities of what is shipped
	$(BIN)/python -m tools.supply.licences
	$(BIN)/python -m tools.supply.vulnerabilities

expected-detector: $(VENV)/.run  ## the test region's expected result, after weights/detector-lite or the region changed
	$(BIN)/python inference.py --input test/input/region0 --output test/expected/region0 --weights weights/detector-lite --device cpu

expected: $(VENV)/.run  ## the test stack's expected result, after weights/lite or the stack changed
	$(BIN)/python inference.py --input test/input/interf0 --output test/expected/interf0 --weights weights/lite --device cpu

lock: $(VENV)/.dev  ## compile the requirements; UPGRADE=--upgrade takes the newest versions
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) train/requirements.in -o train/requirements.txt
	$(COMPILE) requirements-build.in -o requirements-build.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1: \2/p' Makefile

clean:  ## remove .venv and what the commands here built
	rm -rf $(VENV) test/output dist site

$(VENV)/.run: requirements.txt requirements-build.txt pyproject.toml
	@echo "installing the locked requirements into $(VENV): about 8 GB (12 while it installs) and some minutes the first time, with no output"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --require-hashes -r requirements.txt -r requirements-build.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/pip install --quiet --no-compile --require-hashes -r requirements-dev.txt
	@touch $@
