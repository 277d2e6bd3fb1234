# SPDX-License-Identifier: Apache-2.0
# Everything a contributor or CI runs. `make help` lists the targets; `make demo` and `make test` are the first two to try.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test explore build plugin lint fmt fmt-check clippy check-deps limits proto bless bench check tools localstack

export CARGO_TARGET_DIR ?= $(CURDIR)/target
# Incremental state of the workspace buys little and costs gigabytes; one setting everywhere keeps one build of the SDK.
export CARGO_INCREMENTAL ?= 0
BUILD := $(CARGO_TARGET_DIR)

# Property tests draw the same cases in every run, so that a red run is the change's doing; `make explore` draws new ones.
export PROPTEST_RNG_SEED ?= 20261122

# The programs that the tests and the demo drive.
export ENID_IPAMD := $(BUILD)/debug/ipamd
export ENID_CNI_PLUGIN := $(BUILD)/enid/aws-cni
export ENID_TOOLS := $(BUILD)/enid/tools
export ENID_LOCALSTACK := $(BUILD)/enid/localstack

say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

demo: build plugin tools ## two emulated nodes, real daemon, real plugin, 259 pods, real packets (needs root)
	$(call say,demo)
	@$(BUILD)/debug/enid-demo

test: build plugin tools localstack ## every test (needs root)
	$(call say,tests)
	@scripts/nextest.sh run --workspace --all-targets

explore: ## property tests of the pure crates with new random cases, many of them
	$(call say,property tests with new cases)
	@env -u PROPTEST_RNG_SEED PROPTEST_CASES=3000 scripts/nextest.sh run -p ipamd-core -p vpc-model -p datapath --lib -E 'test(/propert|invariant|grow|random/)'

build: ## compile the workspace (the first time: about 5 minutes and 8 GB for aws-sdk-ec2)
	$(call say,building the workspace; the first build compiles aws-sdk-ec2: about 5 minutes and 8 GB of memory)
	@cargo build --workspace --all-targets

plugin: ## the CNI binary, static
	$(call say,building the CNI plugin as a static binary)
	@scripts/build-plugin.sh $(ENID_CNI_PLUGIN)

tools: ## unpack the programs that tests read the kernel back with (nft, ip), unless the host has them
	@scripts/tools.sh

localstack: ## install LocalStack core into the build folder
	@scripts/localstack.sh install

lint: fmt-check check-deps clippy ## formatting, dependency rules, clippy

fmt: ## format the code
	@cargo fmt --all

fmt-check:
	$(call say,formatting)
	@cargo fmt --all --check

clippy:
	$(call say,clippy; the first run checks aws-sdk-ec2: about 3 minutes and 6 GB of memory)
	@cargo clippy --workspace --all-targets -- -D warnings

check-deps: ## who may depend on what, licences
	$(call say,dependency rules)
	@scripts/check-deps.sh

limits: ## regenerate the instance limits from instance-limits/data/instance-limits.csv
	@cargo run -q -p instance-limits --example limits -- instance-limits/data/instance-limits.csv instance-limits/src/table.rs

proto: ## regenerate ipam-api/src/generated from the .proto files
	@cargo run -q -p ipam-api --example generate

bless: ## rewrite golden files from what the code prints now; read the diff
	@ENID_BLESS=1 cargo test -q -p datapath --features apply golden
	@ENID_BLESS=1 cargo test -q -p ipamd-core --test readme

bench: build tools ## measure ADD and DEL against the floor (needs root; the first time builds a release daemon)
	@scripts/bench.sh

check: lint test ## all that CI runs
