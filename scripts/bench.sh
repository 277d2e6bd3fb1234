#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the host network and ADD and DEL cost (integration/src/bench); prints Markdown tables. Arguments: sections to run.
# One of them, families, is a program of the datapath's alone (datapath/examples/families.rs).
# The daemon is the release build, with the slim aws-sdk-ec2 unless SDK=full asks for the published one (thin LTO: about 15
# minutes and 9 GB the first time); ENID_BENCH_DAEMON=debug takes the debug one instead and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/sdk.sh
build=$ENID_BUILD
sections=()
for section in "$@"; do
    [ "$section" = families ] || sections+=("$section")
done
if [ $# -eq 0 ] || [ ${#sections[@]} -lt $# ]; then
    cargo run --quiet --release -p datapath --features apply --example families
    [ $# -eq 0 ] || [ ${#sections[@]} -gt 0 ] || exit 0
fi
CARGO_TARGET_DIR=$build scripts/build-plugin.sh "$build/enid/aws-cni"
target=$(basename "$(dirname "$(dirname "$(ls -t "$build"/*/plugin/aws-cni | head -1)")")")
echo "building the floor with the same linkage ($target)"
RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-C target-feature=+crt-static -C relocation-model=static" \
    cargo build --quiet --target-dir "$build" --profile plugin -p cni-floor --target "$target"
cp "$build/$target/plugin/cni-floor" "$build/enid/cni-floor"
if [ "${ENID_BENCH_DAEMON:-release}" = debug ]; then
    echo "daemon: debug build (its memory and times are not those of a release)"
    cargo build --config "$ENID_SDK" --workspace --bins
else
    echo "building the daemon for release, with the ${SDK:-slim} aws-sdk-ec2"
    cargo build --config "$ENID_SDK" --release -p ipamd
    export ENID_IPAMD=$CARGO_TARGET_DIR/release/ipamd
fi
export ENID_CNI_FLOOR=$build/enid/cni-floor
case " ${sections[*]} " in
    *" sandboxes "*)
        ENID_RUNTIMES=$(scripts/runtimes.sh)
        export ENID_RUNTIMES
        ;;
esac
ENID_CNI_PEERS=$(scripts/tools.sh peers)/usr/lib/cni/ptp
export ENID_CNI_PEERS
exec "$CARGO_TARGET_DIR/debug/enid-bench" "${sections[@]}"
