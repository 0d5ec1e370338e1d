# The verbs. Each sets up what it needs from a bare Python >= 3.11 and make.
.DEFAULT_GOAL := help
.PHONY: help demo serve test check bench fleet docs sam-local rehearse build layer deploy dist lock upgrade clean

# A uv of the machine's own, or a private one in .uv/.
UV := $(or $(shell command -v uv),.uv/bin/uv)
BIN := .venv/bin
# The SAM application that demo, sam-local and rehearse run: `make demo ROOT=../mine`.
ROOT := .
# Each process has servers of its own. They take over tests from one another, so they end together.
PYTEST := $(BIN)/pytest --numprocesses auto --dist worksteal
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.uv/bin:$(PATH)
# SAM's usage reports are no part of a build.
export SAM_CLI_TELEMETRY := 0

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv

# The lock says what; .python-version says on which Python. Where 3.13 can be neither found nor fetched, the Python at
# hand serves for everything but `sam build`, whose bytecode must be 3.13's.
.venv/ready: uv.lock pyproject.toml src/devkit/pyproject.toml .python-version | $(UV)
	$(UV) sync --locked --quiet || { \
	  echo "no Python 3.13 to be had: going on with $$(python3 --version), for everything but sam build"; \
	  $(UV) sync --locked --quiet --python "$$(command -v python3)"; }
	@touch $@

$(if $(filter .uv/bin/uv,$(UV)),,$(UV):)

demo: .venv/ready  ## every payload of events/ through its handler in the real Lambda runtime
	$(BIN)/python -m devkit demo --root "$(ROOT)"

serve: .venv/ready  ## the HTTP routes on localhost, in the real Lambda runtime: PORT=3000
	$(BIN)/python -m devkit serve --root "$(ROOT)" $(PORT:%=--port "%")

test: .venv/ready  ## the tests that need neither Docker nor root, nor minutes
	$(PYTEST) -m "not slow"

check: .venv/ready  ## lint, types, template and migrations, every test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/sam validate --lint
	$(BIN)/sam validate --lint --template database.yaml
	$(BIN)/python -m db.migrations lint
	$(PYTEST)

bench: .venv/ready  ## the benchmarks beside their peers, to benchmarks/results (about ten minutes)
	$(BIN)/python -m benchmarks

fleet: .venv/ready  ## environments by the hundred under freezes, rotations, restarts, failovers, storms, alarms and kills (half an hour)
	$(BIN)/python -m devkit fleet --results benchmarks/results $(addprefix --fuzz ,$(wildcard tests/*/test_fuzz.py))
	cp benchmarks/results/fleet.svg docs/run/survival.svg

build: .venv/ready  ## the artifacts of `sam deploy`, in .aws-sam/build
	$(BIN)/sam build

# db with its dependencies, for functions in another template: docs/start/layer.md. WITH is a requirements file for more.
layer: .venv/ready  ## a Lambda layer of db: RUNTIME=python3.12 ARCH=arm64 OUT=<folder>, for any template
	@$(BIN)/python layer/build.py "$(or $(OUT),$(error make layer takes OUT=<folder>, RUNTIME=python3.13 and ARCH=arm64))" --project . \
	  $(RUNTIME:%=--runtime "%") $(ARCH:%=--arch "%") $(WITH:%=--also "%") $(BYTECODE_PYTHON:%=--python "%")

docs: .venv/ready  ## the site of docs/, in .site; a link that leads nowhere fails it
	$(BIN)/zensical build --clean --strict

sam-local: .venv/ready  ## every payload through `sam local invoke` in Docker
	$(BIN)/python -m devkit sam-local --root "$(ROOT)"

rehearse: .venv/ready  ## every deploy from the first to the last, in minutes, without an account
	$(BIN)/python -m devkit rehearse --root "$(ROOT)"

# Which of your environments: deploy/dev.toml, deploy/prod.toml, and the stacks of that name. docs/start/account.md.
ENV := dev
.PHONY: account certs database deploy destroy
DEPLOYS = $(BIN)/python -m devkit $@ --env "$(ENV)"

account: .venv/ready  ## what your AWS account has and lacks for a deploy; changes nothing there. ENV=prod
	@$(DEPLOYS)

certs: .venv/ready  ## fetch the authorities of RDS's certificates, for the layer
	@$(DEPLOYS) $(URL:%=--url "%")

database: .venv/ready  ## deploy database.yaml: network, Aurora, secrets. A quarter of an hour; says what it costs. ENV=prod
	@$(DEPLOYS)

deploy: .venv/ready  ## sam build && sam deploy, with what the database's stack puts out. ENV=prod
	@$(DEPLOYS)

destroy: .venv/ready  ## delete what `deploy` made; with DATABASE=yes the database too; YES=yes asks nothing. ENV=prod
	@$(DEPLOYS) $(if $(filter yes,$(DATABASE)),--database) $(if $(filter yes,$(YES)),--yes)

dist: | $(UV)  ## both distributions, to dist/: each sdist, and the wheel that is built from it
	rm -rf dist
	$(UV) build --quiet --all-packages --out-dir dist
	@ls dist

# What the layer installs is written from the same resolution.
LAYER_REQUIREMENTS = $(UV) export --quiet --frozen --no-dev --no-emit-project --no-header --output-file layer/requirements.txt

lock: | $(UV)  ## resolve what pyproject.toml asks for, and upgrade nothing else
	$(UV) lock
	$(LAYER_REQUIREMENTS)

upgrade: | $(UV)  ## resolve everything again, to the newest that serves
	$(UV) lock --upgrade
	$(LAYER_REQUIREMENTS)

clean:  ## remove what the verbs made
	rm -rf .venv .uv .aws-sam .site .cache dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
