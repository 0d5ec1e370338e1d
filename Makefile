# The verbs. Each sets up what it needs from a bare Python >= 3.11 and make.
.DEFAULT_GOAL := help
.PHONY: help demo serve test core check bench fleet sizing docs sam-local rehearse build layer deploy dist lock upgrade clean

# A uv of the machine's own, or a private one in .uv/.
UV := $(or $(shell command -v uv),.uv/bin/uv)
# What the verbs run on: 3.13 as .python-version says, or what `make <verb> RUNTIME=3.14` says, in an environment of its
# own. What is built and run is then for that one too, whatever the template names.
PYTHONS := 3.12 3.13 3.14
USUAL := $(shell cat .python-version)
PYTHON := $(or $(RUNTIME:python%=%),$(USUAL))
ifeq ($(filter $(PYTHON),$(PYTHONS)),)
$(error RUNTIME=$(PYTHON): it is to be one of $(PYTHONS))
endif
VENV := .venv$(if $(filter-out $(USUAL),$(PYTHON)),-$(PYTHON))
BIN := $(VENV)/bin
FOR_RUNTIME := $(if $(RUNTIME),--runtime $(PYTHON))
# Not handed on: the makefiles that `sam build` calls have a RUNTIME as well, which the template says.
MAKEOVERRIDES :=
unexport RUNTIME
# The SAM application that demo, sam-local and rehearse run: `make demo ROOT=../mine`.
ROOT := .
# Each process has servers of its own. They take over tests from one another, so they end together.
PYTEST := $(BIN)/pytest --numprocesses auto --dist worksteal
CORE := tests/unit tests/postgres tests/dialect tests/aio tests/mysql tests/runtime
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/.uv/bin:$(PATH)
# SAM's usage reports are no part of a build.
export SAM_CLI_TELEMETRY := 0

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

# The lock says what. uv finds that Python, or fetches it from GitHub; else it is Debian's. Where there is none of the
# usual one, the Python at hand serves for everything but `sam build`, whose bytecode is for the template's.
OF_ENVIRONMENT = $(or $(filter-out .venv,$(@D:.venv-%=%)),$(USUAL))
SYNC = UV_PROJECT_ENVIRONMENT=$(@D) $(UV) sync --locked --quiet --python
.venv/ready $(PYTHONS:%=.venv-%/ready): uv.lock pyproject.toml src/devkit/pyproject.toml .python-version | $(UV)
	$(SYNC) $(OF_ENVIRONMENT) || { \
	  found="$$(PYTHONPATH=src python3 -m devkit.lambda_runtime.debian_python $(OF_ENVIRONMENT))" && $(SYNC) "$$found"; } || \
	  $(if $(filter .venv,$(@D)),$(ANY_PYTHON),exit 1)
	@touch $@

define ANY_PYTHON
{ echo "no Python $(USUAL) to be had: going on with $$(python3 --version), for everything but sam build"; \
	  $(SYNC) "$$(command -v python3)"; }
endef

$(if $(filter .uv/bin/uv,$(UV)),,$(UV):)

demo: $(VENV)/ready  ## every payload of events/ through its handler in the real Lambda runtime
	$(BIN)/python -m devkit demo --root "$(ROOT)" $(FOR_RUNTIME)

serve: $(VENV)/ready  ## the HTTP routes on localhost, in the real Lambda runtime: PORT=3000
	$(BIN)/python -m devkit serve --root "$(ROOT)" $(FOR_RUNTIME) $(PORT:%=--port "%")

test: $(VENV)/ready  ## the tests that need neither Docker nor root, nor minutes
	$(PYTEST) -m "not slow"

# What a release of Python could break: decisions, the wire, the server, async, and what is built of it.
core: $(VENV)/ready  ## the tests of db, and one event from what a build makes: for RUNTIME=3.14
	$(PYTEST) -m "not slow" $(CORE)
	$(BIN)/pytest tests/packaging/test_layer.py::test_a_function_answers_from_what_was_built

check: $(VENV)/ready  ## lint, types, template, migrations, db check and the plan of connections, every test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/sam validate --lint
	$(BIN)/sam validate --lint --template database.yaml
	$(BIN)/python -m db.migrations lint
	$(BIN)/python -m devkit check --allowed handlers.migrate:ALLOWED
	$(BIN)/python -m devkit plan --with database.yaml
	$(PYTEST)

bench: $(VENV)/ready  ## the benchmarks beside their peers, to benchmarks/results (about ten minutes, on a quiet machine)
	$(BIN)/python -m benchmarks

fleet: $(VENV)/ready  ## environments by the hundred under freezes, rotations, restarts, failovers, storms, alarms and kills (half an hour)
	$(BIN)/python -m devkit fleet --results benchmarks/results $(addprefix --fuzz ,$(wildcard tests/*/test_fuzz.py))
	cp benchmarks/results/fleet.svg docs/run/survival.svg

sizing: $(VENV)/ready  ## what pools, poolers and deploys do at up to 10,000 environments, by simulation (a minute)
	$(BIN)/python -m devkit simulate --questions --results benchmarks/results
	mv benchmarks/results/sizing-*.svg docs/run

build: $(VENV)/ready  ## the artifacts of `sam deploy`, in .aws-sam/build
	$(BIN)/python -m devkit build --root "$(ROOT)" $(FOR_RUNTIME)

# db with its dependencies, for functions in another template: docs/start/layer.md. WITH is a requirements file for more.
layer: BIN := .venv/bin
layer: .venv/ready  ## a Lambda layer of db: RUNTIME=3.12 ARCH=arm64 OUT=<folder>, for any template
	@$(BIN)/python layer/build.py "$(or $(OUT),$(error make layer takes OUT=<folder>, RUNTIME=3.13 and ARCH=arm64))" --project . \
	  $(if $(RUNTIME),--runtime python$(PYTHON)) $(ARCH:%=--arch "%") $(WITH:%=--also "%") $(BYTECODE_PYTHON:%=--python "%")

docs: $(VENV)/ready  ## the site of docs/, in .site; a link that leads nowhere fails it
	$(BIN)/zensical build --clean --strict

sam-local: $(VENV)/ready  ## every payload through `sam local invoke` in Docker
	$(BIN)/python -m devkit sam-local --root "$(ROOT)" $(FOR_RUNTIME)

rehearse: $(VENV)/ready  ## every deploy from the first to the last, in minutes, without an account
	$(BIN)/python -m devkit rehearse --root "$(ROOT)" $(FOR_RUNTIME)

# Which of your environments: deploy/dev.toml, deploy/prod.toml, and the stacks of that name. docs/start/account.md.
ENV := dev
.PHONY: account certs database deploy destroy
DEPLOYS = $(BIN)/python -m devkit $@ --env "$(ENV)"

account: $(VENV)/ready  ## what your AWS account has and lacks for a deploy; changes nothing there. ENV=prod
	@$(DEPLOYS)

certs: $(VENV)/ready  ## fetch the authorities of RDS's certificates, for the layer
	@$(DEPLOYS) $(URL:%=--url "%")

database: $(VENV)/ready  ## deploy database.yaml: network, Aurora, secrets. A quarter of an hour; says what it costs. ENV=prod
	@$(DEPLOYS)

deploy: $(VENV)/ready  ## sam build && sam deploy, with what the database's stack puts out. ENV=prod
	@$(DEPLOYS) $(FOR_RUNTIME)

destroy: $(VENV)/ready  ## delete what `deploy` made; with DATABASE=yes the database too; YES=yes asks nothing. ENV=prod
	@$(DEPLOYS) $(if $(filter yes,$(DATABASE)),--database) $(if $(filter yes,$(YES)),--yes)

dist: | $(UV)  ## both distributions, to dist/: each sdist, and the wheel that is built from it
	rm -rf dist
	$(UV) build --quiet --all-packages --out-dir dist
	@ls dist

# What the layer installs is written from the same resolution.
EXPORT = $(UV) export --quiet --frozen --no-dev --no-emit-project --no-header
LAYER_REQUIREMENTS = $(EXPORT) --output-file layer/db.txt && \
  $(EXPORT) --prune alembic --prune jmespath --output-file layer/requirements.txt && \
  $(EXPORT) $(patsubst %,--prune %,sqlalchemy psycopg aws-lambda-powertools typing-extensions) --output-file layer/alembic.txt

lock: | $(UV)  ## resolve what pyproject.toml asks for, and upgrade nothing else
	$(UV) lock
	$(LAYER_REQUIREMENTS)

upgrade: | $(UV)  ## resolve everything again, to the newest that serves
	$(UV) lock --upgrade
	$(LAYER_REQUIREMENTS)

clean:  ## remove what the verbs made
	rm -rf .venv .venv-* .uv .aws-sam .site .cache dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
