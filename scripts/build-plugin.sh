#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the CNI plugin as one static file: for musl where that target of Rust is installed (smaller, and a process
# starts faster), for static glibc otherwise. Says which it took and how large the file is, and fails above the limit.
# usage: build-plugin.sh [floor|calls] [copy]     the last line of standard output is the path of the file, or of its copy
#        floor, calls: the program that `make bench` holds the plugin against, and the one that makes calls alone (integration/floor), with
#        the same linkage
set -euo pipefail
cd "$(dirname "$0")/.."

arch=$(uname -m)
musl=$arch-unknown-linux-musl
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
    target=$musl limit=2000000 libc=musl
else
    target=$arch-unknown-linux-gnu limit=2110000 libc="static glibc"
fi
# At a fixed address: no start has anything to relocate, and pages that hold addresses stay the page cache's (docs/security.md).
flags="-C target-feature=+crt-static -C relocation-model=static"

package=cni-plugin program=aws-cni what="the CNI plugin"
case "${1:-}" in
    floor) package=cni-floor program=cni-floor what="the floor" limit= ;;
    calls) package=cni-floor program=cni-calls what="the caller without a process" limit= ;;
esac
[ "$package" = cni-plugin ] || shift
hint=
[ "$libc" = musl ] || hint=" (for a smaller one: rustup target add $musl)"
echo "building $what with $libc$hint"
# With --target the flag does not reach build scripts and procedural macros, which cannot be static.
RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }$flags" \
    cargo build --quiet --profile plugin -p "$package" --bin "$program" --target "$target"

binary=${CARGO_TARGET_DIR:-target}/$target/plugin/$program
if ldd "$binary" 2>&1 | grep -q '=>'; then
    echo "$binary is not static" >&2
    exit 1
fi
size=$(stat --format=%s "$binary")
echo "$program: $size bytes with $libc${limit:+, limit $limit}"
if [ -n "$limit" ] && [ "$size" -gt "$limit" ]; then
    echo "$binary is over its limit: look for what came in with cargo tree -p cni-plugin -e normal,features" >&2
    exit 1
fi
if [ $# -gt 0 ]; then
    mkdir -p "$(dirname "$1")"
    # Beside and renamed: a runtime may be running the old one.
    cp "$binary" "$1.new" && mv "$1.new" "$1"
    binary=$1
fi
echo "$binary"
