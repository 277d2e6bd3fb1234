#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what `make bench` measures, and measures it (integration/src/bench): tables, goals and ratios on the terminal; report.md and
# plots in <build folder>/enid/bench. Arguments: sections to run. What the environment may ask for: docs/benchmarks/README.md.
# The daemon is the static release that the image ships (scripts/build-daemon.sh), with the slim aws-sdk-ec2 unless SDK=full asks for
# the published one (thin LTO: about 15 minutes and 9 GB the first time); ENID_BENCH_DAEMON=debug takes the debug one and says so.
# `make bench` has built the harness and the debug daemon before.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/sdk.sh
build=$ENID_BUILD
sections=("$@")
wants() { # wants <section>: it will run
    if [ ${#sections[@]} -eq 0 ]; then [ "$1" != sandboxes ]; else [[ " ${sections[*]} " == *" $1 "* ]]; fi
}

CARGO_TARGET_DIR=$build scripts/build-plugin.sh "$build/enid/aws-cni"
CARGO_TARGET_DIR=$build scripts/build-plugin.sh floor "$build/enid/cni-floor"
case "${ENID_BENCH_DAEMON:-release}" in
    release) ENID_IPAMD=$(scripts/build-daemon.sh release | tail -1) ;;
    debug) echo "daemon: debug build (its memory and times are not those of a release)" ;;
    *) ;; # the harness says what there is
esac
# Programs of crates that the harness may not depend on; it reads the tables that they print.
example() { # example <section> <variable> <name> <package and features>
    wants "$1" || return 0
    cargo build --quiet --release --example "$3" "${@:4}"
    export "$2=$CARGO_TARGET_DIR/release/examples/$3"
}
example families ENID_BENCH_FAMILIES families -p datapath --features apply
example planner ENID_BENCH_DECISION decision -p ipamd-core
example checkpoint ENID_BENCH_JOURNAL journal -p ipamd-core
example memory ENID_BENCH_GROWTH growth -p ipamd-simulate
if wants rpc || wants checkpoint; then
    CARGO_TARGET_DIR=$build scripts/build-plugin.sh calls "$build/enid/cni-calls"
    export ENID_CNI_CALLS=$build/enid/cni-calls
fi
if wants sandboxes; then
    ENID_RUNTIMES=$(scripts/runtimes.sh)
    export ENID_RUNTIMES
fi
ENID_CNI_PEERS=$(scripts/tools.sh peers)/usr/lib/cni/ptp
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit="$commit with changes"
ENID_BENCH_STAMP="$(date -u +%F), commit $commit"
export ENID_IPAMD ENID_CNI_PEERS ENID_BENCH_STAMP ENID_CNI_FLOOR=$build/enid/cni-floor
exec "$CARGO_TARGET_DIR/debug/enid-bench" "$@"
