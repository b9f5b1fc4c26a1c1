# The one door to this repository. `make help` lists what is behind it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where scripts/tools.sh puts what the system lacks.
export PATH := $(CURDIR)/target/tools:$(PATH)

# Seconds for each fuzz target.
FUZZ_SECONDS ?= 30

# nextest gives each test its own process and a clearer report; plain cargo does as well.
CARGO_TEST := $(shell command -v cargo-nextest >/dev/null && echo "cargo nextest run" || echo "cargo test")

# The targets share one build folder, which only one cargo at a time may use.
.NOTPARALLEL:
# What `make bench` is told, e.g. BENCH="--scenario S1,S2 --rounds 1"; see runcast-bench run --help.
BENCH ?=

.PHONY: alert-faults chart-docs chart-redis chart-test images bench help build demo test test-valkey test-s3 test-clients fmt lint proto-lint unit integration latency history chaos chaos-smoke fuzz deny tools clean bins

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Builds everything, for development
	cargo build --workspace

demo: tools ## Three sample agents, live in the browser; prints the URL
	cargo build --workspace
	exec target/debug/runcast dev --demo

test: tools lint unit integration ## Everything that must pass: format, lints, all tests

fmt: ## Formats the code
	cargo fmt --all

lint: ## Checks the format, and clippy without warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

proto-lint: ## Checks the protocol buffers (buf lint)
	@scripts/tools.sh buf
	cd proto && buf lint && buf format --diff --exit-code

unit: ## Unit, property and documentation tests; no Redis needed
	$(CARGO_TEST) --workspace --lib --bins
	cargo test --workspace --doc --quiet

# The tests start the real programs, so these must be there and up to date.
integration: tools bins ## Tests against real Redis servers and the real services
	$(CARGO_TEST) --workspace --test '*'

# With the tests: their dependencies' features would otherwise have everything built twice.
bins:
	cargo build --workspace --bins --tests

# Tests that another server than Debian's Redis can tell something new about.
VALKEY_TESTS := append dead_letters durability failover reading secured subscriber \
  journal_restart outage overflow stream main_job

test-valkey: bins ## The tests that speak to Redis once more, against Valkey
	@scripts/tools.sh valkey
	@echo "test-valkey: this server was built without TLS, so the test of TLS skips itself"
	RUNCAST_REDIS_SERVER=$(CURDIR)/target/tools/valkey-server \
	  $(CARGO_TEST) --workspace $(VALKEY_TESTS:%=--test %)

test-s3: bins ## The archive on a real S3 server (SeaweedFS)
	@scripts/tools.sh weed
	$(CARGO_TEST) -p runcast-replay --test s3

test-clients: tools bins proto-lint ## Clients of other makes: SSE with reconnects, gRPC, gRPC-Web, DuckDB
	clients-e2e/run.sh

latency: tools bins ## Measures agent's write to viewer's socket, 10,000 words
	cargo run -p runcast-testkit --example latency

bench: tools ## Measures the fan-out beside the floor, nchan and Python (BENCH="--quick"), and publishing
	@scripts/tools.sh bench
	cargo build --release --workspace --bins
	target/release/runcast-bench run $(BENCH)
	target/release/runcast-bench publish $(filter --quick,$(BENCH))

history: tools ## Measures history: archive, pages, snapshots, replays of a run of a million messages
	cargo build --release --workspace --bins
	cargo run --release -p runcast-testkit --example history

# Modules for scripts/chart.
CHART_PYTHON := $(CURDIR)/target/tools/chart.python

# What `make chaos` is told, e.g. CHAOS="--topology cluster --seconds 300 --seed 7"; see --help.
CHAOS ?= --topology sentinel

chaos: tools bins ## Breaks things under real load and checks that nobody misses a word
	target/debug/chaos $(CHAOS)

# All that is broken by whatever is broken: the seed is printed, and repeats the schedule.
chaos-smoke: tools bins ## A few minutes of chaos on each topology
	target/debug/chaos --topology standalone --count 8 --pause 2
	target/debug/chaos --topology sentinel --count 8 --pause 2 --seconds 120
	target/debug/chaos --topology cluster --count 8 --pause 2 --seconds 120
	@scripts/tools.sh chart
	target/debug/chaos --topology chart --faults kill-primary,isolate-primary,stop-primary,kill-fanout \
	  --in-order --count 4 --pause 1

fuzz: ## Runs each fuzz target for FUZZ_SECONDS (30)
	@command -v cargo-fuzz >/dev/null || { \
	  echo "cargo-fuzz is missing; get it once with: cargo install cargo-fuzz --locked" >&2; exit 1; }
	@# The sanitizers are unstable: without a nightly toolchain the stable one is told to allow them.
	@for target in $$(cargo fuzz list); do \
	  echo "== $$target"; \
	  mkdir -p "fuzz/corpus/$$target"; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
	    -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

# Helm, its second major and what else it takes come by scripts/tools.sh; configurations are given to the programs of
# target/debug, if they are there.
alert-test: ## Alerts: each has tests, a runbook, and metrics that there are (promtool)
	@scripts/tools.sh promtool
	@scripts/alert-test.sh

alert-faults: tools bins ## Alerts: each fired by its own fault, with real services and a real Prometheus
	@scripts/tools.sh promtool
	PATH=$(CURDIR)/target/tools/prometheus/usr/bin:$$PATH cargo run -p runcast-testkit --example alert_faults -- $(FAULTS)

chart-test: ## Renders the chart with many values, with two majors of Helm, and looks at all that comes out
	@scripts/tools.sh chart
	@PYTHONPATH=$(CHART_PYTHON) PYTHONDONTWRITEBYTECODE=1 python3 scripts/chart/test.py

chart-redis: bins ## The chart's Redis on loopback, with the real programs, killed and robbed of its data
	@scripts/tools.sh
	@scripts/tools.sh chart
	@PYTHONPATH=$(CHART_PYTHON) PYTHONDONTWRITEBYTECODE=1 python3 scripts/chart/redis.py

images: ## Builds the images of all programs, with docker, podman or buildah
	@docker/images.sh

chart-docs: ## Makes the chart's schema and table of values from values.yaml, and its Redis users from the code
	@scripts/tools.sh chart
	cargo run --quiet -p runcast-bus --example acl >target/users.acl
	mv target/users.acl charts/runcast/files/users.acl
	@PYTHONPATH=$(CHART_PYTHON) PYTHONDONTWRITEBYTECODE=1 python3 scripts/chart/docs.py

# The advisories are fetched from where they are kept; without a way there: make deny DENY="bans licenses sources".
DENY ?= advisories bans licenses sources
deny: ## Checks dependencies: advisories, licences, duplicates, sources
	@command -v cargo-deny >/dev/null || { \
	  echo "cargo-deny is missing; get it once with: cargo install cargo-deny --locked" >&2; exit 1; }
	cargo deny check $(DENY)

tools: ## Makes sure that redis-server and a C compiler are there
	@scripts/tools.sh

clean: ## Removes all that was built
	cargo clean
