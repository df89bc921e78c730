# What a newcomer types. The work is done by tools/ and CMake (CMakePresets.json).
.DEFAULT_GOAL := help
.PHONY: help setup build install demo test chaos chaos-slurm chaos-many chaos-ranks chaos-features bench-scheduler fuzz-http fuzz-workspace format format-check tidy precommit asan asan-rooms tsan clean

help:
	@echo "make demo          install what is missing, build, and run both folds on generated data (under 2 minutes when built)"
	@echo "make test          install what is missing, build, and run every test"
	@echo "make build         install what is missing, and build build/bin/filo and build/bin/filo-worker"
	@echo "make install       build, and install both programs, configs/, manuals and libraries under PREFIX (/usr/local; see cmake/README.md)"
	@echo "make setup         only install what the programs and the tests need"
	@echo "make format        format the sources; make format-check says which are not"
	@echo "make tidy          clang-tidy over all sources, or FILES=\"a.cpp b.cpp\" or FILES=--changed"
	@echo "make precommit     what a commit must pass that needs no build, in seconds; tools/precommit --install has git run it"
	@echo "make asan          the unit tests under AddressSanitizer and UBSan; make asan-rooms: those without LibTorch, in minutes"
	@echo "make tsan          the tests of the rooms without LibTorch under ThreadSanitizer"
	@echo "make chaos         kill -9 of the coordinator 500 times (5 minutes); SEED=N for another run; LAG=60, CLOCKS=300: on two hosts, as below"
	@echo "make chaos-slurm   the same on a Slurm cluster of virtual nodes whose files lag by LAG=60 s and whose clocks are CLOCKS=300 s off"
	@echo "make chaos-many    100 experiments of 50 stages, handed over, cancelled and retried by 10 processes at once (7 minutes)"
	@echo "make chaos-ranks   kill -9 of single random ranks of trainings, KILLS=1000 times (35 minutes); SEED=N for another run"
	@echo "make chaos-features  kill -9 of ranks that build a feature cache, KILLS=100 times (4 minutes); SEED=N for another run"
	@echo "make bench-scheduler  the coordinator with 100,000 stages, 10,000 trials, 10,000 workers (3 minutes)"
	@echo "make fuzz-http     malformed requests against filo serve under ASan and UBSan, for SECONDS=600; SEED=N for others"
	@echo "make fuzz-workspace  one file of a live workspace made bad at a time, for SECONDS=600"
	@echo "make clean         remove what was built and the demo's folder; .deps stays"

setup:
	@tools/setup test

build:
	@tools/setup build
	@tools/build filo filo-worker

# DESTDIR=FOLDER: below a folder that PREFIX is not told of; FILO_TORCH_RPATH=FOLDER[:FOLDER]: where filo-worker looks for LibTorch.
PREFIX ?= /usr/local
install: build
	@cmake --install build --prefix $(abspath $(PREFIX))

demo: build
	@tools/demo

test:
	@tools/setup test
	@tools/build
	@ctest --test-dir build --output-on-failure --no-tests=error -j $(shell nproc)

format:
	@tools/setup test
	@tools/format

format-check:
	@tools/setup test
	@tools/format --check

precommit:
	@tools/setup test
	@tools/precommit

tidy:
	@tools/setup test
	@tools/build
	@tools/tidy $(FILES)

# The torch-free rooms, and their test programs. LibTorch is not instrumented: ThreadSanitizer would report its threads for what they do right.
ROOMS := base settings workspace cluster checkpoint data metrics scheduler service
ROOM_TESTS := '^($(shell echo $(ROOMS) | tr ' ' '|'))[.]'
ROOM_PROGRAMS := $(addprefix test_,$(ROOMS)) test_cluster_mpi

# CMakePresets.json says which tests are left out: those that compare with PyTorch, and those that run the demo, which take hours like this.
asan:
	@tools/setup test
	@PRESET=asan tools/build
	@ctest --preset asan

asan-rooms:
	@tools/setup test
	@PRESET=asan tools/build $(ROOM_PROGRAMS)
	@ctest --preset asan -j $(shell nproc) -R $(ROOM_TESTS)

# Planning 100,000 trials has one thread, and takes minutes here: left out.
tsan:
	@tools/setup test
	@PRESET=tsan tools/build $(ROOM_PROGRAMS)
	@ctest --preset tsan -R $(ROOM_TESTS)

fuzz-http:
	@tools/setup test
	@PRESET=asan tools/build filo
	@.deps/venv/bin/python tests/fuzz/http.py --filo build-asan/bin/filo --requests 1000000 --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

fuzz-workspace: build
	@tools/setup test
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo .deps/venv/bin/python tests/fuzz/workspace.py --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

chaos: build
	@tools/setup test
	@tools/build filo_lag
	@FILO_LAG=$(CURDIR)/build/tests/chaos/libfilo_lag.so FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo .deps/venv/bin/python tests/chaos/chaos.py --kills 500 --lag $(or $(LAG),0) --clocks $(or $(CLOCKS),0) --seed $(or $(SEED),0)

chaos-slurm: build
	@tools/setup test
	@tools/build filo_lag
	@FILO_LAG=$(CURDIR)/build/tests/chaos/libfilo_lag.so FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo .deps/venv/bin/python tests/chaos/slurm_chaos.py --kills 500 --lag $(or $(LAG),60) --clocks $(or $(CLOCKS),300) --seed $(or $(SEED),0)

chaos-many: build
	@tools/setup test
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo FILO_WORKER=$(CURDIR)/build/bin/filo-worker .deps/venv/bin/python tests/chaos/many.py --seed $(or $(SEED),0)

chaos-ranks: build
	@tools/setup test
	@ctest --test-dir build -R '^integration.demo$$' --no-tests=error
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo FILO_WORKER=$(CURDIR)/build/bin/filo-worker FILO_SCRATCH=$(CURDIR)/build/tests/integration .deps/venv/bin/python tests/chaos/ranks.py $(or $(KILLS),1000) $(or $(SEED),1)

chaos-features: build
	@tools/setup test
	@ctest --test-dir build -R '^integration.demo$$' --no-tests=error
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo FILO_WORKER=$(CURDIR)/build/bin/filo-worker FILO_SCRATCH=$(CURDIR)/build/tests/integration .deps/venv/bin/python tests/chaos/features.py $(or $(KILLS),100) $(or $(SEED),1)

bench-scheduler: build
	@build/bin/filo bench scheduler --json

clean:
	rm -rf build build-* demo
