#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes what Enid reads from others (fuzz/): builds the targets with coverage instrumentation, then runs each on its corpus and on what
# libFuzzer makes of it. Prints for each how many inputs a second it ran, how many it found worth keeping, and what of the code they reach.
# usage: fuzz.sh SECONDS [TARGET…]     SECONDS for each target; without one: all of them
#        fuzz.sh short [TARGET…]       so many inputs as take some seconds, the same ones each time: what a change does not touch stays green
#
# What is kept in the repository is only read; new inputs go to <build folder>/fuzz/corpus and are where the next run begins.
# `fuzz.sh minimise TARGET…` leaves there the least of both that reaches as much. A crash ends with an error and says where its input is.
#
# Stable Rust has all it takes: the instrumentation is LLVM's pass, which `cargo fuzz` switches on too; sanitizers are not used, for unsafe
# code is forbidden in what is fuzzed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz.sh SECONDS|short [TARGET…]}
shift
source scripts/sdk.sh
build=$ENID_BUILD
target=$(rustc -vV | sed -n 's/^host: //p')
mapfile -t all < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")
for name in "${targets[@]}"; do
    [ -e "fuzz/fuzz_targets/$name.rs" ] || { echo "fuzz: no target $name; there are ${all[*]}" >&2; exit 64; }
done

# libFuzzer is C++: the crate libfuzzer-sys builds it with the compiler that CXX names, or c++.
cxx=${CXX:-c++}
command -v "${cxx%% *}" >/dev/null || {
    echo "fuzz: there is no C++ compiler ($cxx), with which libFuzzer is built: install one (Debian: g++), or name it in CXX" >&2
    exit 1
}

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=8"
# With --target the flags do not reach build scripts and procedural macros, which have no libFuzzer to be linked with.
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$build/fuzz ${ENID_CARGO:-cargo} build --quiet --locked --release --target "$target" \
    --config "$ENID_SDK" --manifest-path fuzz/Cargo.toml "${targets[@]/#/--bin=}"

folder=$build/fuzz found=$build/fuzz/found programs=$build/fuzz/$target/release
mkdir -p "$found"

minimise() { # minimise <target>
    local least
    least=$(mktemp -d "$folder/least.XXXXXX")
    mkdir -p "$folder/corpus/$1"
    "$programs/$1" -merge=1 "-artifact_prefix=$found/$1-" "$least" "fuzz/corpus/$1" "$folder/corpus/$1" 2>/dev/null
    rm -rf "$folder/corpus/$1" && mv "$least" "$folder/corpus/$1"
    echo "fuzz: $1: $(find "$folder/corpus/$1" -type f | wc -l) inputs, $(cat "$folder/corpus/$1"/* | wc -c) bytes in $folder/corpus/$1"
}

run() { # run <target>
    local new=$folder/corpus/$1 kept=fuzz/corpus/$1 log=$folder/$1.log dictionary=()
    local start=() limits=("-max_total_time=$seconds")
    if [ "$seconds" = short ]; then
        # From what is kept alone, with one seed. A journal is a whole life of a node. The SDK's clients take another way at each start (seeds of
        # hashes, the clock): what is kept is run, and mutated by unit tests, which draw the same each time.
        new=$folder/short/$1 limits=(-seed=20261130 -reload=0 -entropic=0 -runs=30000)
        case $1 in
            journal) limits[3]=-runs=3000 ;;
            ec2 | imds) limits[3]=-runs=0 ;;
        esac
        rm -rf "$new"
        # Where addresses are drawn anew at each start, so is what counts as new.
        ! setarch -R true 2>/dev/null || start=(setarch -R)
    fi
    mkdir -p "$new"
    [ ! -e "fuzz/dictionaries/$1" ] || dictionary=("-dict=fuzz/dictionaries/$1")
    if "${start[@]}" "$programs/$1" "$new" "$kept" "${limits[@]}" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
        "-artifact_prefix=$found/$1-" "${dictionary[@]}" >"$log" 2>&1; then
        awk -v name="$1" -v kept="$(find "$kept" -type f | wc -l)" '
            / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") edges = $(i + 1); if ($i == "corp:") inputs = $(i + 1) } }
            /stat::number_of_executed_units/ { runs = $2 }
            /stat::average_exec_per_sec/ { speed = $2 }
            END {
                sub("/.*", "", inputs)
                printf "fuzz: %-14s %9d runs, %7d/s, %5d inputs, %3d of them kept, %5d edges\n", name, runs, speed, inputs, kept, edges
            }' "$log"
        return
    fi
    {
        echo "fuzz: $1 FAILED: $(grep -m1 -E 'panicked at|ERROR: libFuzzer' "$log" || tail -3 "$log")"
        grep -A2 -m1 'panicked at' "$log" | tail -n +2 || true
        echo "fuzz: the input is $(sed -n 's/.*Test unit written to //p' "$log" | tail -1)"
        echo "fuzz: again by: $programs/$1 <input>; once mended, add it to $kept"
    } >&2
    return 1
}

# As many at a time as there are processors.
task=run
[ "$seconds" != minimise ] || task=minimise
export seconds folder found programs
export -f run minimise
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c "$task {}"
