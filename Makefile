# The one door to everything: `make help`.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))

# The user's choices; script/lib.sh has the defaults and checks them.
export BUILD NGINX PYTHON APP PORT THREADS VENV ONLY ROUNDS DOCS CASE MINUTES SUITES MATRIX_DIR
export WSGI_RUN_FROM := $(CURDIR)
CARGO := $(ROOT)/script/cargo.sh
# The three worlds build without each other: pool and exchange alone, with Python, and all of the module.
ALONE := --no-default-features
PYTHON_ONLY := --no-default-features --features python
WHOLE := $(if $(filter system,$(NGINX)),--no-default-features --features module)

DOC_FLAGS := --no-deps --document-private-items

# Other flags, other builds: a directory of its own keeps cargo from building everything anew each time.
LOOM_TARGET := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)/loom

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-test setup-bench build run test unit check doc deny loom integration soak fuzz sanitize matrix bench bench-slow clean

help: ## this list
	@echo 'make TARGET [VARIABLE=VALUE ...]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(ROOT)/Makefile | expand -t 16
	@echo
	@echo 'PYTHON=python3                 the CPython (3.9 or newer) to build with and for'
	@echo 'NGINX=vendored|system          nginx 1.28, built by cargo; or the one that the distribution has'
	@echo 'BUILD=release|debug'
	@echo 'make run APP=path/to/wsgi.py:application | APP=module:callable  [PORT=8080] [THREADS=8] [VENV=dir]'
	@echo '                               serves your own application'

setup: ## install what building needs and this machine lacks (needs apt and root; else it says what)
	@$(ROOT)/script/setup.sh

build: setup ## nginx and the module; the last two lines say where they are
	@$(ROOT)/script/build.sh

run: build ## serve examples/hello, or APP, on http://127.0.0.1:8080 until Ctrl-C
	@$(ROOT)/script/run.sh

test: setup-test unit check loom integration ## everything; sets up what is missing

setup-test:
	@$(ROOT)/script/setup.sh test

unit: setup ## cargo's tests: pool and exchange alone, with Python, and the module
	@$(CARGO) test $(ALONE)
	@$(CARGO) test $(PYTHON_ONLY)
	@$(CARGO) test $(WHOLE)

check: setup ## rustfmt and clippy, for every set of features
	@$(CARGO) fmt --check
	@$(CARGO) clippy --all-targets $(ALONE) -- -D warnings
	@$(CARGO) clippy --all-targets $(PYTHON_ONLY) -- -D warnings
	@$(CARGO) clippy --all-targets $(WHOLE) -- -D warnings

doc: export RUSTDOCFLAGS := $(RUSTDOCFLAGS) -D warnings
doc: setup ## rustdoc for every set of features, with private items; warnings are errors
	@$(CARGO) doc $(DOC_FLAGS) $(ALONE)
	@$(CARGO) doc $(DOC_FLAGS) $(PYTHON_ONLY)
	@$(CARGO) doc $(DOC_FLAGS) $(WHOLE)

deny: setup ## licences, sources and known vulnerabilities of the dependencies, by cargo-deny (installed in target/ if missing)
	@$(ROOT)/script/deny.sh

loom: setup ## the pool's protocols, in every order of their threads' steps
	@RUSTFLAGS='$(RUSTFLAGS) --cfg loom' $(CARGO) test --target-dir $(LOOM_TARGET) --release --lib $(ALONE) loom_models

integration: export BUILD := debug
integration: setup-test ## pytest against a real nginx and a debug build of the module; ARGS are pytest's
	@$(ROOT)/script/build.sh
	@$(ROOT)/script/integration.sh $(ARGS)

soak: setup-test ## the long tests: crowds that leave or do not read, a million requests, gigabytes, reload and quit under load
	@$(ROOT)/script/build.sh
	@$(ROOT)/script/soak.sh $(ARGS)

fuzz: export BUILD := debug
fuzz: setup-test ## random applications and random clients, two minutes each; MINUTES=2, CASE=NUMBER to repeat one
	@$(ROOT)/script/build.sh
	@$(ROOT)/script/fuzz.sh $(ARGS)

sanitize: setup-test ## the integration tests with AddressSanitizer in nginx and in the module
	@$(ROOT)/script/sanitize.sh $(ARGS)

matrix: ## the tests with each Debian's CPython and nginx, in debootstrap's folders (needs root); SUITES='trixie sid'
	@$(ROOT)/script/matrix.sh

setup-bench:
	@$(ROOT)/script/setup.sh bench

bench: setup-bench ## this module, its peers and the limit, side by side; ONLY=hello,django ROUNDS=3 DOCS=1
	@$(ROOT)/script/build.sh
	@$(ROOT)/script/bench.sh $(ARGS)

bench-slow: setup-bench ## a static file's latency while slow calls are in flight, and with them on the event loop
	@$(ROOT)/script/build.sh
	@ONLY=slow $(ROOT)/script/bench.sh $(ARGS)

clean: ## remove everything that was built
	@cd $(ROOT) && cargo clean && rm -rf target
