# Two commands a newcomer needs: `make run` and `make test`. The rest is what they are made of.
# Under them are plain CMake presets (dev, single, release, asan, tsan): see CMakePresets.json.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DEV := build/dev
# A compiler cache then serves every checkout of this project, wherever it lies (but see CMAKE_UNITY_BUILD_RELOCATABLE).
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
# These builds have the Python package as well, with the interpreter and tools of build/venv.
PYTHON_ARGS := -DOCTET_PYTHON=ON -DPython_EXECUTABLE=$(CURDIR)/build/venv/bin/python
CMAKE_CONFIGURE = cmake --preset $(1) $(if $(filter dev single,$(1)),$(PYTHON_ARGS)) $(CMAKE_ARGS) > build/$(1).configure.log 2>&1 || { cat build/$(1).configure.log; exit 1; }

.PHONY: help run test test-torch build lint bench install setup venv test-asan test-tsan format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: build ## set this machine up, build a release, generate text with the bundled model in FP8
	@build/bin/octet generate -p "It was on a dreary night" --raw-prompt -n 120

build: setup ## set up and build the program: build/bin/octet
	@mkdir -p build/bin
	@$(call CMAKE_CONFIGURE,release)
	@cmake --build --preset release -j $(JOBS) --target octet
	@ln -sf ../release/bin/octet build/bin/octet

test: setup venv ## set up and run every test; closes with "N passed, N failed, N skipped"
	@mkdir -p build
	@$(call CMAKE_CONFIGURE,dev)
	@cmake --build --preset dev -j $(JOBS)
	@python3 tools/run_tests.py --preset dev --jobs $(JOBS)

test-torch: setup venv ## the tests of octet.torch, in an environment of their own with PyTorch and transformers
	@tools/python_env.sh build/venv-torch python/requirements-torch.txt
	@$(call CMAKE_CONFIGURE,dev)
	@cmake --build --preset dev -j $(JOBS) --target octet_python
	@PYTHONPATH=$(DEV)/python build/venv-torch/bin/python -B -m pytest -q tests/torch

test-asan: setup ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@mkdir -p build
	@$(call CMAKE_CONFIGURE,asan)
	@cmake --build --preset asan -j $(JOBS) --target octet_tests
	@python3 tools/run_tests.py --preset asan --jobs $(JOBS)

test-tsan: setup ## the tests of threaded code under ThreadSanitizer
	@mkdir -p build
	@$(call CMAKE_CONFIGURE,tsan)
	@cmake --build --preset tsan -j $(JOBS) --target threads_tests
	@python3 tools/run_tests.py --preset tsan --jobs $(JOBS) --label threads

lint: setup venv ## clang-format, clang-tidy and the floors of the architecture
	@mkdir -p build
	@tools/python_env.sh build/venv-lint tools/requirements-lint.txt
	@$(call CMAKE_CONFIGURE,single)
	@python3 tools/check_layers.py
	@python3 tools/lint.py --build build/single --jobs $(JOBS)

format: ## rewrite the sources as clang-format wants them
	@tools/python_env.sh build/venv-lint tools/requirements-lint.txt
	@python3 tools/lint.py --fix-format

bench: setup venv ## build and run every benchmark: each checks its kernels before it times them
	@mkdir -p build
	@$(call CMAKE_CONFIGURE,dev)
	@cmake --build --preset dev -j $(JOBS)
	@for program in $(DEV)/bin/*_bench; do echo "== $$program"; $$program || exit 1; done

install: build ## install the program and the demo model under PREFIX
	@cmake --install build/release --prefix $(PREFIX)

venv: setup
	@tools/python_env.sh build/venv python/requirements.txt

setup: ## install what this project needs (Debian or Ubuntu packages, Rust); cheap when all is there
	@tools/setup.sh

clean: ## remove everything that was built
	rm -rf build
