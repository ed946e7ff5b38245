# What a person does with this repository. `make` alone lists it.
# Needs Python 3.11 or newer and make; what else a target needs, it sets up.

VENV ?= .venv
PYTHON ?= $(shell sh tests/tools/find_python.sh)
UV_VERSION := 0.13.9
ARGS ?=
FUZZ_SECONDS ?= 60
# Tests wait for real processes half of their time.
TEST_PROCESSES ?= $(shell expr $$(nproc 2>/dev/null || echo 2) '*' 3 / 2)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header
BENCH := PYTHONPATH=benchmarks $(BIN)/python
CADDY := $(VENV)/caddy/bin/caddy
TRAEFIK := $(VENV)/traefik/bin/traefik
PY_SPY := $(VENV)/py-spy/bin/py-spy
# The base64 of 32 zeros: a vault key in form, and nobody's.
ANY_KEY := AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

.DEFAULT_GOAL := help
.PHONY: help install demo demo-check bench bench-limits cost profile test conformance fuzz lint format lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

install: $(VENV)/.installed ## make .venv with the `gateway` command in it

$(VENV)/.installed: requirements-build.txt requirements-dev.txt pyproject.toml
	@$(BIN)/python -c '' 2>/dev/null || sh tests/tools/make_venv.sh "$(PYTHON)" "$(VENV)"
	@echo "Installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-build.txt
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## the gateway before two demo backends, with curl lines to paste
	@$(BIN)/gateway demo $(ARGS)

demo-check: install ## run the demo's curl lines, print a table, exit 0 or 1
	@command -v curl >/dev/null || sh tests/tools/install.sh curl
	$(BIN)/gateway demo --check

bench: install ## the gateway beside six others, all cases; a quarter of an hour; ARGS="--only public"
	@command -v redis-server >/dev/null || sh tests/tools/install.sh redis-server redis
	@command -v nginx >/dev/null || sh tests/tools/install.sh nginx
	@command -v wrk >/dev/null || sh tests/tools/install.sh wrk
	@command -v haproxy >/dev/null || sh tests/tools/install.sh haproxy || echo "No HAProxy, then."
	@test -x $(CADDY) || $(PIP) install --require-hashes --target $(VENV)/caddy \
	-r tests/conformance/caddy.txt || echo "No Caddy, then."
	@test -x $(TRAEFIK) || $(PIP) install --require-hashes --target $(VENV)/traefik \
	-r benchmarks/traefik.txt || echo "No Traefik, then."
	@CADDY=$(CADDY) TRAEFIK=$(TRAEFIK) $(BENCH) -m bench $(ARGS)

profile: install ## a flame graph of a worker under load, build/profile.svg; ARGS="--of 'plan key'"
	@command -v redis-server >/dev/null || sh tests/tools/install.sh redis-server redis
	@command -v nginx >/dev/null || sh tests/tools/install.sh nginx
	@command -v wrk >/dev/null || sh tests/tools/install.sh wrk
	@test -x $(PY_SPY) || $(PIP) install --require-hashes --target $(VENV)/py-spy \
	-r benchmarks/py-spy.txt
	@PY_SPY=$(PY_SPY) $(BENCH) -m bench.profile $(ARGS)

cost: install ## instructions a request takes; exits 1 if more than accepted (ARGS=--accept does)
	@command -v redis-server >/dev/null || sh tests/tools/install.sh redis-server redis
	@command -v valgrind >/dev/null || sh tests/tools/install.sh valgrind
	@$(BENCH) -m bench.cost $(ARGS)

bench-limits: install ## what the limits cost, in speed and in Redis; two cores, about two minutes
	@command -v redis-server >/dev/null || sh tests/tools/install.sh redis-server redis
	@command -v nginx >/dev/null || sh tests/tools/install.sh nginx
	@command -v wrk >/dev/null || sh tests/tools/install.sh wrk
	@$(BIN)/python benchmarks/limits.py $(ARGS)

test: install ## run the tests, on a real redis-server; ARGS="tests/limits -x" goes to pytest
	@command -v curl >/dev/null || sh tests/tools/install.sh curl
	@command -v redis-server >/dev/null || sh tests/tools/install.sh redis-server redis
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)

conformance: install ## the conformance rows through nginx, HAProxy and Caddy too; writes RESULTS.md
	@command -v nginx >/dev/null || sh tests/tools/install.sh nginx
	@command -v haproxy >/dev/null || sh tests/tools/install.sh haproxy
	@test -x $(CADDY) || $(PIP) install --require-hashes --target $(VENV)/caddy \
	-r tests/conformance/caddy.txt
	CADDY=$(CADDY) PYTHONPATH=.:tests $(BIN)/python tests/conformance/compare.py

fuzz: install ## look for heads that break a rule, for FUZZ_SECONDS in all; exits 1 on a finding
	@$(PIP) install --require-hashes -r requirements-fuzz.txt
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz/fuzz_all.py --seconds $(FUZZ_SECONDS)

lint: install ## ruff, mypy, yamllint, and `gateway check` on the shipped files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict routes.yaml config deploy
	GATEWAY_TOKEN_SECRET=any-32-bytes-will-do-for-a-check GATEWAY_VAULT_KEY=$(ANY_KEY) \
	$(BIN)/gateway check

format: install ## format the code, write the JSON Schemas anew
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/python -m gateway.schemas

lock: install ## pin what pyproject.toml asks for; ARGS=--upgrade takes the newest of everything
	@$(PIP) install uv==$(UV_VERSION)
	@$(BIN)/python -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	$(COMPILE) $(ARGS) - --output-file requirements-build.txt
	$(COMPILE) $(ARGS) pyproject.toml --output-file requirements.txt
	$(COMPILE) $(ARGS) pyproject.toml --extra dev --constraints requirements.txt \
	--output-file requirements-dev.txt
	@$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["optional-dependencies"]["fuzz"], sep="\n")' | \
	$(COMPILE) $(ARGS) - --output-file requirements-fuzz.txt
	@! grep -n '://' requirements*.txt || { echo "A pin names an address: remove it." >&2; exit 1; }

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
