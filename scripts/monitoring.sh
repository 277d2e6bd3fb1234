#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# promtool, with which tests check what /metrics serves and that alert rules fire: from Debian's package `prometheus` (20 MB fetched;
# of it promtool alone is kept, in the build folder). What the host has is taken first. Prints the folder; idempotent.
# ENID_MONITORING names another one:
#   bin/promtool
set -euo pipefail
source "$(dirname "$0")/debian.sh"
root=${ENID_MONITORING:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/monitoring}
mkdir -p "$root/bin"
root=$(cd "$root" && pwd)

works() { "$root/bin/promtool" --version >/dev/null 2>&1; }

if ! works && type -P promtool >/dev/null; then
    ln -sf "$(type -P promtool)" "$root/bin/promtool"
fi
if ! works; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        echo "monitoring: no apt-get to fetch prometheus with; install promtool, or name a folder with bin/promtool in ENID_MONITORING" >&2
        exit 1
    }
    echo "monitoring: unpacking promtool into $root" >&2
    work=$(mktemp -d "$root/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    debian_fetch "$work" - prometheus || { echo "monitoring: apt-get failed: $(tail -3 "$work/log")" >&2; exit 1; }
    rm -f "$root/bin/promtool"
    mv "$work/-/root/usr/bin/promtool" "$root/bin/promtool"
    works || { echo "monitoring: promtool does not start; see $root/bin" >&2; exit 1; }
fi
echo "$root"
