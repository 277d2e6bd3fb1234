# SPDX-License-Identifier: Apache-2.0
# Everything a contributor or CI runs. `make help` lists the targets; `make demo` and `make test` are the first two to try.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Cargo's commands wait for each other, and prerequisites are in their order: what runs side by side says scripts/beside.sh.
.NOTPARALLEL:
.PHONY: help demo test layouts fill decision scale compare simulate soak kill explore build binaries plugin lint fmt fmt-check clippy check-deps limits proto bless bench check check-slim tools localstack moto kube-proxy network-managers runtimes go-callers monitoring vm vm-packages guest ready test-vm charts kubernetes manifests image test-image test-upgrade test-cluster browser deny fuzz fuzz-short

export CARGO_TARGET_DIR ?= $(CURDIR)/target
# In a shell that sourced scripts/sdk.sh this is the folder of one SDK: make chooses anew.
ifeq ($(ENID_SDK),$(CARGO_TARGET_DIR)/cargo.toml)
override CARGO_TARGET_DIR := $(ENID_BUILD)
endif
ifeq ($(filter /%,$(firstword $(CARGO_TARGET_DIR))),)
override CARGO_TARGET_DIR := $(CURDIR)/$(CARGO_TARGET_DIR)
endif
# Incremental state of the workspace buys little and costs gigabytes; one setting everywhere keeps one build of the SDK.
export CARGO_INCREMENTAL ?= 0
# Where all but cargo's output goes; scripts/sdk.sh gives each SDK a target folder of its own below it.
export ENID_BUILD := $(CARGO_TARGET_DIR)
export ENID_CNI_PLUGIN := $(ENID_BUILD)/enid/aws-cni
export ENID_TOOLS := $(ENID_BUILD)/enid/tools
export ENID_LOCALSTACK := $(ENID_BUILD)/enid/localstack
export ENID_MOTO := $(ENID_BUILD)/enid/moto
export ENID_KUBE_PROXY ?= $(ENID_BUILD)/enid/kube-proxy
export ENID_NETWORK_MANAGERS ?= $(ENID_BUILD)/enid/network-managers
export ENID_VM ?= $(ENID_BUILD)/enid/vm
export ENID_RUNTIMES ?= $(ENID_BUILD)/enid/runtimes
export ENID_BROWSER ?= $(ENID_BUILD)/enid/browser
export ENID_CHARTS ?= $(ENID_BUILD)/enid/charts
export ENID_GO_CALLERS ?= $(ENID_BUILD)/enid/go-callers
export ENID_MONITORING ?= $(ENID_BUILD)/enid/monitoring
export ENID_KUBERNETES ?= $(ENID_BUILD)/enid/kubernetes

# Everyday work compiles a slim aws-sdk-ec2; SDK=full takes the crate as published, as a plain `cargo build` does.
export SDK ?= slim
sdk := source scripts/sdk.sh
# Programs are found at one place whatever the SDK: <build folder>/enid/bin.
link-programs = mkdir -p "$$ENID_BUILD/enid/bin"; ln -sf "$$CARGO_TARGET_DIR"/debug/{ipamd,vpc-emulator,enid-demo,enid-bench} "$$ENID_BUILD/enid/bin"

# Property tests draw the same cases in every run, so that a red run is the change's doing; `make explore` draws new ones.
export PROPTEST_RNG_SEED ?= 20261122

say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

demo: binaries plugin tools ## two emulated nodes, real daemon, real plugin, 259 pods, real packets (needs root)
	$(call say,demo)
	@$(sdk); "$$CARGO_TARGET_DIR/debug/enid-demo"

# What tests drive besides our own programs, the longest first: kube-proxy takes four minutes of a Go compiler, LocalStack one of pip.
driven := kube-proxy go-callers localstack runtimes browser moto charts tools network-managers monitoring

# The image takes a build of the daemon of its own, a whole Kubernetes minutes to be built; the virtual machine is amd64's.
left_out := binary(image) | binary(cluster)
ifeq ($(shell uname -m),x86_64)
vm_of_test := guest
driven += vm-packages
else
left_out += | binary(vm)
endif

test: ready $(vm_of_test) ## every test but the image's, a whole Kubernetes' and those beside an earlier version (needs root)
	$(call say,tests)
	$(call say,LEFT OUT: the image (make test-image builds it and tests it))
	$(call say,LEFT OUT: a whole Kubernetes (make test-cluster builds one and lives on two nodes of it))
	$(call say,LEFT OUT: the tests beside an earlier version (make test-upgrade REF=… builds it and runs them))
	$(if $(vm_of_test),,$(call say,LEFT OUT: the tests on Linux 6.1 (their virtual machine needs amd64 and this is $(shell uname -m))))
	@$(sdk); scripts/nextest.sh run --profile all --test-threads $$((3 * $$(nproc))) --config "$$ENID_SDK" --workspace --all-targets -E 'not (package(integration) & ($(left_out)))'

# Made ready beside cargo's builds, whatever there is of it yet: the first time that is as long as these are.
ready:
	@scripts/beside.sh $(driven) -- make --no-print-directory fuzz-short build plugin

test-image: build plugin tools runtimes ## the image: what is in it, and the daemon in it on an emulated node (needs root; builds a static debug daemon)
	$(call say,the image)
	@archive=$$(scripts/image.sh dev | tail -1); $(sdk); ENID_IMAGE=$$archive scripts/nextest.sh run --config "$$ENID_SDK" --workspace --all-targets -E 'package(integration) & binary(image)'

test-cluster: build plugin tools runtimes kube-proxy charts kubernetes ## a real Kubernetes on two nodes of the emulated VPC (needs root; builds Kubernetes 1.20 the first time, 8 minutes)
	$(call say,a real Kubernetes)
	@$(sdk); scripts/nextest.sh run --config "$$ENID_SDK" --workspace --all-targets -E 'package(integration) & binary(cluster)'

test-vm: build vm ## all of the datapath's tests on Linux 6.1, in a small virtual machine (`make test` runs some there)
	$(call say,the datapath on Linux 6.1)
	@$(sdk); ENID_VM_TESTS=all scripts/nextest.sh run --config "$$ENID_SDK" --workspace --all-targets -E 'package(integration) & binary(vm)'

test-upgrade: build plugin tools ## this version and an earlier one on one node, both ways (needs root; REF=git ref, the latest tag v* by default)
	$(call say,an earlier version beside this one)
	@ENID_PREVIOUS=$$(scripts/previous.sh $(REF)); export ENID_PREVIOUS; $(sdk); \
		scripts/nextest.sh run --config "$$ENID_SDK" -p integration --run-ignored only -E 'binary(upgrade)'

layouts: build plugin tools kube-proxy network-managers ## the packet scenarios in the layout that is not the default (needs root)
	$(call say,scenarios in layout classic)
	@$(sdk); ENID_TEST_LAYOUT=classic scripts/nextest.sh run --config "$$ENID_SDK" -p integration -E 'binary(topology) | binary(attach) | binary(prefix) | binary(cooling) | binary(restart) | binary(rp_filter) | binary(nat) | binary(nodeport) | binary(kube_proxy) | binary(recycled) | binary(repair)'

kill: build plugin tools ## kill -9 of plugin and daemon at every single system call, 20 minutes (needs root; `make test` cuts where it matters)
	$(call say,kill -9 at every system call)
	@$(sdk); ENID_KILL=all scripts/nextest.sh run --config $$ENID_SDK --workspace -E 'package(integration) & binary(kill)' --success-output immediate

fill: binaries plugin tools ## from no pod to 110 and 232 on an m5.4xlarge, real processes and the simulation: docs/fill.md (needs root; ROUNDS=3)
	$(call say,filling a node)
	@$(sdk); cargo run --quiet --config "$$ENID_SDK" -p integration --example fill -- $(or $(ROUNDS),3)
	@$(sdk); cargo run --quiet --config "$$ENID_SDK" -p ipamd-simulate --example filling

decision: ## what a decision of the core costs with 750 addresses, optimised: docs/fill.md
	@cargo run --quiet --release -p ipamd-core --example decision

scale: ## simulate 5,000 nodes joining at once, ours and the reference: the tables of docs/scale.md (long; NODES=1000)
	@cargo run --quiet --release -p ipamd-simulate --example scale -- $(or $(NODES),5000)

compare: ## simulate the shipped traces with several settings, ours and the reference: docs/settings-compared.md
	@cargo run --quiet -p ipamd-simulate --example compare

simulate: ## live one seed of the simulation again, with its trace (SEED=n; ALL=all for every line)
	$(call say,seed $(SEED))
	@cargo run -q -p ipamd-simulate --example seeds -- replay $(or $(SEED),0) $(ALL)

soak: ## live new seeds of the simulation for SECONDS (600)
	$(call say,new seeds for $(or $(SECONDS),600) s)
	@cargo run -q -p ipamd-simulate --example seeds -- soak $(or $(SECONDS),600)

fuzz: ## fuzz what is read from others, each target for SECONDS (600): fuzz/README.md (TARGET=name for one)
	$(call say,fuzzing for $(or $(SECONDS),600) s a target)
	@scripts/fuzz.sh $(or $(SECONDS),600) $(TARGET)

fuzz-short:
	$(call say,fuzzing shortly)
	@scripts/fuzz.sh short

explore: ## property tests of the pure crates with new random cases, many of them
	$(call say,property tests with new cases)
	@env -u PROPTEST_RNG_SEED PROPTEST_CASES=3000 scripts/nextest.sh run -p ipamd-core -p vpc-model -p datapath --lib -E 'test(/propert|invariant|grow|random/)'

build: ## compile the workspace
	$(call say,building the workspace with the $(SDK) aws-sdk-ec2)
	@$(sdk); cargo build --config "$$ENID_SDK" --workspace --all-targets; $(link-programs)

binaries:
	$(call say,building the programs with the $(SDK) aws-sdk-ec2)
	@$(sdk); cargo build --config "$$ENID_SDK" --workspace --bins; $(link-programs)

plugin: ## the CNI binary, static
	$(call say,building the CNI plugin as a static binary)
	@scripts/build-plugin.sh "$$ENID_CNI_PLUGIN"

tools: ## unpack the programs that tests use (nft, ip, iptables, conntrack, strace), unless the host has them
	@scripts/tools.sh

localstack: ## install LocalStack core into the build folder
	@scripts/localstack.sh install

moto: ## install moto server into the build folder
	@scripts/moto.sh install

kube-proxy: ## build kube-proxy 1.20.2 from Debian's source into the build folder (the first time 3 minutes)
	@scripts/kube-proxy.sh

network-managers: ## unpack systemd-networkd, NetworkManager, udev and dbus for tests, as far as the host lacks them (Debian)
	@scripts/network-managers.sh

runtimes: ## unpack containerd 1.x and 2.x, podman, runc and busybox for tests (Debian)
	@scripts/runtimes.sh

browser: ## unpack Chromium and chromedriver for tests of the page, unless the host has them (Debian)
	@scripts/browser.sh

charts: ## install helm, kubectl, hadolint and Kubernetes' schemas into the build folder (amd64)
	@scripts/charts.sh

monitoring: ## unpack promtool for tests of metrics and alert rules (Debian)
	@scripts/monitoring.sh

kubernetes: ## build API server, controller manager, scheduler and kubelet 1.20.2 from Debian's source into the build folder (the first time 8 minutes)
	@scripts/kubernetes.sh

manifests: charts ## render the chart into deploy/manifests/enid.yaml
	@scripts/manifests.sh >deploy/manifests/enid.yaml.new && mv deploy/manifests/enid.yaml.new deploy/manifests/enid.yaml

image: ## the image for this machine's architecture, as an archive (needs root; SDK=full for a release)
	$(call say,the image with the $(SDK) aws-sdk-ec2)
	@scripts/image.sh

go-callers: ## build libcni's and gRPC's callers (integration/go) on Debian's packages, with Debian's Go (the first time a minute and a half)
	@scripts/go-callers.sh

vm: build tools guest

vm-packages:
	@scripts/vm.sh

# After `build`: cargo says which executable the datapath's tests are in.
guest:
	$(call say,the guest of the virtual machine)
	@$(sdk); scripts/vm.sh image "$$(cargo test --quiet --config "$$ENID_SDK" --workspace --all-targets --no-run --message-format=json | \
		sed -n 's/.*"kind":\["lib"\].*"name":"datapath".*"executable":"\([^"]*\)".*/\1/p')"

lint: fmt-check check-deps deny clippy ## formatting, dependency rules, cargo deny, clippy

fmt: ## format the code
	@cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml

fmt-check:
	$(call say,formatting)
	@cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	$(call say,clippy)
	@$(sdk); cargo clippy --config "$$ENID_SDK" --workspace --all-targets -- -D warnings

check-deps: ## who may depend on what, and whether the slim SDK is due for a comparison
	$(call say,dependency rules)
	@scripts/check-deps.sh
	@cargo run --quiet -p slim-sdk -- verify .

deny: ## what may be in the tree, who may see it, licences, sources, doubled versions: deny.toml (ENID_ADVISORIES=checkout of the advisory database)
	$(call say,cargo deny)
	@scripts/deny.sh

check-slim: ## compare the slim SDK with the full one (8 GB of memory); due when make lint says so
	$(call say,comparing the slim aws-sdk-ec2 with the full one)
	@scripts/check-slim.sh

limits: ## regenerate the instance limits from instance-limits/data; FROM="a.json b.json": answers of DescribeInstanceTypes first
	@cargo run -q -p instance-limits --example limits -- instance-limits/data/instance-limits.csv instance-limits/src/table.rs $(FROM)

proto: ## regenerate ipam-api/src/generated from the .proto files
	@cargo run -q -p ipam-api --example generate

bless: ## rewrite golden files from what the code prints now; read the diff
	@ENID_BLESS=1 cargo test -q -p datapath --lib plan::
	@ENID_BLESS=1 cargo test -q -p ipamd-core --test readme --test chart --test reasons --test metrics

bench: binaries tools ## measure ADD and DEL beside the floor and peers, the host network and more: docs/benchmarks (needs root; builds a release daemon; ONLY="matrix packets"; ONLY=sandboxes for a real containerd beside ptp)
	@scripts/bench.sh $(ONLY)

check: lint test ## all that CI runs; apart are test-image, test-cluster and test-upgrade
