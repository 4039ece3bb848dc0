# Millpond. `make demo` and `make test` are the two commands; both set up everything they need.
# Caches live in $MILLPOND_CACHE (default ~/.cache/millpond), keyed by version; nothing is kept in the tree but .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MILLPOND_CACHE ?= $(HOME)/.cache/millpond
PROFILE ?= node
NAME ?= millpond
UV_VERSION := 0.13.9
# uv from the PATH, else from a small environment of its own, made once.
UV := $(shell command -v uv 2>/dev/null || echo $(MILLPOND_CACHE)/uv-$(UV_VERSION)/bin/uv)
RUN := $(UV) run --frozen --no-sync

.PHONY: help setup demo demo-down test test-unit test-broker test-cluster test-system verify generate format \
	bench bench-faults bench-leases bench-messages bench-queue bench-queue-profile bench-reaction bench-scale bench-simulate bench-storm cluster-up cluster-down cluster-load images

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

$(MILLPOND_CACHE)/uv-$(UV_VERSION)/bin/uv:
	@echo "→ uv $(UV_VERSION)"
	@python3 -m venv $(MILLPOND_CACHE)/uv-$(UV_VERSION)
	@$(MILLPOND_CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet uv==$(UV_VERSION)

setup: $(UV) ## Install the workspace into .venv
	@$(UV) sync --frozen --quiet

demo: setup ## The main job on a real cluster, on real input
	@$(RUN) python examples/stdlib-census/demo.py

demo-down: setup ## Remove everything that `make demo` started
	@$(RUN) python examples/stdlib-census/demo.py --down

test: setup ## All four tiers: unit, broker, cluster (real API server), system (real node)
	@$(RUN) python tests/run.py

test-unit test-broker test-cluster test-system: test-%: setup ## One tier
	@$(RUN) python tests/run.py $*

verify: setup ## Generated files, formatting, types, layers, chart
	@$(RUN) python scripts/verify.py

generate: setup ## Write the generated files
	@$(RUN) python scripts/generate.py

format: setup ## Format the code
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

bench: setup ## Publish → Deployment patched, from zero, by push and by poll (needs a cluster: make cluster-up)
	@$(RUN) python -m bench.wake

bench-scale: setup ## 10, 100 and 1,000 pools of 20 workers on kwok: the operator's CPU, memory, loop and API writes (ARGS="--pools 10,100" is quick)
	@$(RUN) python -m bench.scale $(ARGS)

bench-reaction: setup ## Millpond and the real KEDA side by side: 0→1, 0→20, 5→20, 20→0, and 20 flaps (25 min)
	@$(RUN) python -m bench.reaction $(ARGS)

bench-faults: setup ## 1,000 tasks each under kills at every step, OOM, blocked loops, held GILs, a killed server, two owners (15 min)
	@$(RUN) python -m bench.faults $(ARGS)

bench-queue: setup ## No-op tasks with results through one worker, beside taskiq, faststream, arq, dramatiq, celery, pgqueuer (11 min)
	@UV=$(UV) $(RUN) python -m bench.queue $(ARGS)

bench-leases: setup ## Calls to a leased worker beside raw NATS requests, check-outs, and 10,000 of them amid kills (ARGS="--from-zero --pool NAME": a deployed pool)
	@$(RUN) python -m bench.leases $(ARGS)

bench-messages: setup ## Signals and queries to a running task beside raw NATS requests (1 min)
	@$(RUN) python -m bench.messages $(ARGS)

bench-queue-profile: setup ## Where the CPU of a no-op task goes in Millpond's worker (1 min)
	@UV=$(UV) $(RUN) python -m bench.queue.profile $(ARGS)

bench-simulate: setup ## The simulator's tables and plots in docs/scaling.md (30 s; needs no cluster)
	@$(RUN) python -m bench.simulate $(ARGS)

bench-storm: setup ## The same storm of 10,000 tasks on Millpond and on KEDA with an HPA (15 min)
	@$(RUN) python -m bench.storm $(ARGS)

cluster-up: setup ## A real Kubernetes: PROFILE=control-plane|node|kwok
	@$(RUN) millpond-cluster up --profile $(PROFILE) --name $(NAME)

cluster-down: setup ## Stop what cluster-up started
	@$(RUN) millpond-cluster down --name $(NAME)

cluster-load: setup ## Load a locally built IMAGE into the node
	@$(RUN) millpond-cluster load $(IMAGE) --name $(NAME)

images: setup ## Build the images and load them
	@$(RUN) python scripts/images.py --load
