#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs cargo-nextest; installs it into the build folder when the host has none. Tests need one process each: they make
# namespaces, and a namespace ends with its process.
set -euo pipefail
version=0.9.143
if ! cargo nextest --version >/dev/null 2>&1; then
    root="${ENID_BUILD:-${CARGO_TARGET_DIR:?}}/enid/cargo"
    if [ ! -x "$root/bin/cargo-nextest" ]; then
        echo "cargo-nextest is not installed; building $version into $root (about 3 minutes, once)"
        cargo install --locked --version "$version" --root "$root" --target-dir "$root/build" cargo-nextest
        rm -rf "$root/build"
    fi
    export PATH="$root/bin:$PATH"
fi
if [ "$1" != run ]; then
    exec cargo nextest "$@"
fi

# A run ends with what each suite counted. A retried or flaky test would count as what it ended as.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo nextest "$@" 2>&1 | tee "$log" || status=$?
printf '\n%-28s %7s %7s %8s\n' suite passed failed seconds
sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    # What fails is printed again after the summary. The rest is read all the same: an early exit would break the pipe.
    /^ +Summary \[/ { over = 1 }
    over { next }
    /^ +(PASS|FAIL|TIMEOUT|SIGABRT|SIGSEGV|SIGKILL|ABORT|LEAK) \[/ {
        result = $1; line = $0
        sub(/^[^\]]*\] +/, "", line); sub(/^\([^)]*\) +/, "", line)
        split(line, word, " "); seconds = $0; sub(/^[^[]*\[ */, "", seconds); sub(/s\].*/, "", seconds)
        suite = word[1]; time[suite] += seconds
        if (result == "PASS" || result == "LEAK") passed[suite]++; else failed[suite]++
    }
    END { for (suite in time) printf "%-28s %7d %7d %8.1f\n", suite, passed[suite], failed[suite], time[suite] }' | sort
grep -E '^ +Summary \[' "$log" | tail -1
exit "$status"
