#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes what Enid reads from others (fuzz/): builds the targets with coverage instrumentation, then runs each on its corpus and on what
# libFuzzer makes of it. Prints for each how many inputs a second it ran, how many it found worth keeping, and what of the code they reach.
# usage: fuzz.sh SECONDS [TARGET…]     SECONDS for each target; without one: all of them
#
# What is kept in the repository is only read; new inputs go to <build folder>/fuzz/corpus and are where the next run begins. Its `minimise`
# run (fuzz.sh minimise TARGET…) puts the least of both that reaches as much into the repository's. A crash ends with 1 and says where its
# input is.
#
# Stable Rust has all it takes: the instrumentation is LLVM's pass, which `cargo fuzz` switches on too; sanitizers are not used, for unsafe
# code is forbidden in what is fuzzed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz.sh SECONDS [TARGET…]}
shift
build=${ENID_BUILD:-${CARGO_TARGET_DIR:-$PWD/target}}
target=$(rustc -vV | sed -n 's/^host: //p')
mapfile -t all < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")
for name in "${targets[@]}"; do
    [ -e "fuzz/fuzz_targets/$name.rs" ] || { echo "fuzz: no target $name; there are ${all[*]}" >&2; exit 64; }
done

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=8"
# With --target the flags do not reach build scripts and procedural macros, which have no libFuzzer to be linked with.
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$build/fuzz ${ENID_CARGO:-cargo} build --quiet --locked --release --target "$target" \
    --manifest-path fuzz/Cargo.toml "${targets[@]/#/--bin=}"

found=$build/fuzz/found
mkdir -p "$found"
failed=0
for name in "${targets[@]}"; do
    program=$build/fuzz/$target/release/$name new=$build/fuzz/corpus/$name kept=fuzz/corpus/$name
    mkdir -p "$new"
    dictionary=()
    [ ! -e "fuzz/dictionaries/$name" ] || dictionary=("-dict=fuzz/dictionaries/$name")
    if [ "$seconds" = minimise ]; then
        least=$(mktemp -d "$build/fuzz/least.XXXXXX")
        "$program" -merge=1 "$least" "$kept" "$new" 2>/dev/null
        rm -rf "$kept" && mv "$least" "$kept" && chmod 755 "$kept"
        echo "fuzz: $name: $(find "$kept" -type f | wc -l) inputs, $(du -bs "$kept" | cut -f1) bytes"
        continue
    fi
    log=$build/fuzz/$name.log
    if "$program" "$new" "$kept" "-max_total_time=$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
        "-artifact_prefix=$found/$name-" "${dictionary[@]}" >"$log" 2>&1; then
        awk -v name="$name" -v corpus="$(find "$kept" -type f | wc -l)" '
            / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
            /stat::number_of_executed_units/ { runs = $2 }
            /stat::average_exec_per_sec/ { speed = $2 }
            END { sub("/.*", "", corp); printf "fuzz: %-14s %9d runs, %7d/s, %4d inputs (%d kept), %5d edges\n", name, runs, speed, corp, corpus, cov }' "$log"
    else
        failed=1
        echo "fuzz: $name FAILED: $(grep -m1 -E 'panicked at|ERROR: libFuzzer' "$log" || true)" >&2
        grep -A3 -m1 'panicked at' "$log" >&2 || true
        echo "fuzz: the input is $(sed -n 's/.*Test unit written to //p' "$log" | tail -1)" >&2
        echo "fuzz: again by: $program <input>; when mended, add it to $kept" >&2
    fi
done
exit "$failed"
