# What a newcomer types. The work is done by tools/ and CMake (CMakePresets.json).
.DEFAULT_GOAL := help
.PHONY: help setup build demo test chaos chaos-slurm bench-scheduler fuzz-http format format-check tidy asan tsan clean

help:
	@echo "make demo          install what is missing, build, and run both folds on generated data (under 2 minutes when built)"
	@echo "make test          install what is missing, build, and run every test"
	@echo "make build         install what is missing, and build build/bin/filo and build/bin/filo-worker"
	@echo "make setup         only install what the programs and the tests need"
	@echo "make format        format the sources; make format-check says which are not"
	@echo "make tidy          clang-tidy over all sources, or FILES=\"a.cpp b.cpp\""
	@echo "make asan, tsan    the unit tests under AddressSanitizer and UBSan, or (rooms without LibTorch) ThreadSanitizer"
	@echo "make chaos         kill -9 of the coordinator 500 times (5 minutes); SEED=N for another run"
	@echo "make chaos-slurm   the same on a Slurm cluster of virtual nodes (12 minutes)"
	@echo "make bench-scheduler  the coordinator with 100,000 stages, 10,000 trials, 10,000 workers (3 minutes)"
	@echo "make fuzz-http     10,000 malformed requests against filo serve under ASan and UBSan (20 minutes); SEED=N for others"
	@echo "make clean         remove what was built and the demo's folder; .deps stays"

setup:
	@tools/setup test

build:
	@tools/setup build
	@tools/build filo filo-worker

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

tidy:
	@tools/setup test
	@tools/build
	@tools/tidy $(FILES)

asan:
	@tools/setup test
	@PRESET=asan tools/build
	@ctest --test-dir build-asan --output-on-failure --no-tests=error -E '^(parity|integration)\.'

# LibTorch is not instrumented: its threads would be reported for what they do right.
# Planning 100,000 trials has one thread, and takes minutes here.
tsan:
	@tools/setup test
	@PRESET=tsan tools/build test_base test_settings test_cluster test_checkpoint test_data test_scheduler test_http
	@ctest --test-dir build-tsan --output-on-failure --no-tests=error -R '^(base|settings|cluster|checkpoint|data|scheduler|http)\.' -E HundredThousand

fuzz-http:
	@tools/setup test
	@PRESET=asan tools/build filo
	@.deps/venv/bin/python tests/fuzz/http.py --filo build-asan/bin/filo --seed $(or $(SEED),1)

chaos: build
	@tools/setup test
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo .deps/venv/bin/python tests/chaos/chaos.py --kills 500 --seed $(or $(SEED),0)

chaos-slurm: build
	@tools/setup test
	@FILO_SOURCE_DIR=$(CURDIR) FILO=$(CURDIR)/build/bin/filo .deps/venv/bin/python tests/chaos/slurm_chaos.py --kills 500 --seed $(or $(SEED),0)

bench-scheduler: build
	@build/bin/filo bench scheduler --json

clean:
	rm -rf build build-* demo
