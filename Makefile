# Weft on one machine. Every target checks for what it needs and installs what is missing when it
# runs as root; otherwise it prints the command that does.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The programs that the demo and the namespace tests run: fast to build, nearly as fast as a release.
BUILD := cargo build --profile demo -p weft-proxy -p weft-init -p weft-tests --bins
NEEDS := ./tests/prerequisites.sh

export WEFT_BIN_DIR := $(abspath $(TARGET))/demo
# Where prerequisites.sh puts promtool.
export PATH := $(PATH):$(abspath $(TARGET))/tools:/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help demo demo-shell test soak properties fuzz interop lint build profile clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Six scenarios on real connections, in half a minute: no cluster, no Docker
	@$(NEEDS) lab
	@echo "building (some minutes the first time) …"
	@$(BUILD)
	@$(WEFT_BIN_DIR)/weft-demo

demo-shell: ## The same, left up: a shell in a client pod with names, curl and the manifests
	@$(NEEDS) lab
	@$(BUILD)
	@$(WEFT_BIN_DIR)/weft-demo --shell

test: ## All tests: unit, property, in-process, and in network namespaces
	@$(NEEDS) lab promtool
	$(BUILD)
	cargo test --workspace --no-fail-fast

soak: ## Mixed traffic through a sidecar amid churn for MINUTES=10; report in target/soak
	@$(NEEDS) lab
	$(BUILD)
	@$(WEFT_BIN_DIR)/weft-soak --minutes $(or $(MINUTES),10) --out $(TARGET)/soak

properties: ## 100,000 random routes and requests against a plain scan, and status against the table
	@$(NEEDS) build
	@# 1 to 15 requests a case.
	PROPTEST_CASES=12500 cargo test --profile demo -p weft-gamma --lib property
	PROPTEST_CASES=100000 cargo test -p weft-proxy --lib agreement

fuzz: ## Fuzz targets, SECONDS=60 for each of the seven (TARGETS="request path": these only)
	@$(NEEDS) fuzz
	@fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

interop: ## h2spec, gRPC's interoperability suite, odd requests to eight servers, WebSockets
	@tests/interop/run.sh

lint: ## Formatting, and clippy without warnings
	@$(NEEDS) build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# Targets that `cargo test` does not run are none of "all targets".
	cargo clippy --package weft-e2e --package weft-security --test '*' -- -D warnings

build: ## The release binaries in target/release
	@$(NEEDS) build
	RUSTFLAGS="$$(proxy/profile/flags.sh)" cargo build --release -p weft-proxy
	cargo build --release -p weft-init

profile: ## Counts how often each branch of weft-proxy is taken, for release builds to come
	@$(NEEDS) build lab
	@cargo build --profile demo -p weft-init -p weft-tests --bins
	@proxy/profile/record.sh $(WEFT_BIN_DIR) $(abspath $(TARGET))/profile

clean: ## Removes everything that was built
	cargo clean

include tests/attacks/attacks.mk
include tests/bench/bench.mk
include tests/cluster/cluster.mk
include tests/security/security.mk
include tests/scale/scale.mk
