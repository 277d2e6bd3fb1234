#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds `ipamd` as one static, stripped file, as the image needs it: for musl where that target of Rust is installed, for static
# glibc otherwise. With the slim aws-sdk-ec2 unless SDK=full says otherwise; a release is built with the full one. The last line of
# standard output is the path of the file.
# usage: build-daemon.sh [release|dev]     dev: quick to build and slow, for tests of the image
#
# Names are resolved by libc. A static glibc (2.34 or newer) does that itself, by /etc/hosts and DNS; further sources of names
# (nsswitch.conf) would be shared libraries, which no scratch image has.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
source scripts/sdk.sh

arch=$(uname -m)
target=$arch-unknown-linux-musl libc=musl flags=()
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    # Packed relocations (glibc 2.36, Debian 12) are 1.6 MB less of the image.
    target=$arch-unknown-linux-gnu libc="static glibc" flags=(-C link-arg=-Wl,-z,pack-relative-relocs)
fi
echo "building ipamd ($profile) with $libc and the ${SDK:-slim} aws-sdk-ec2" >&2
RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-C target-feature=+crt-static -C strip=symbols" \
    cargo rustc --quiet --config "$ENID_SDK" --profile "$profile" -p ipamd --bin ipamd --target "$target" -- "${flags[@]}"

folder=$profile
[ "$profile" != dev ] || folder=debug
binary=$CARGO_TARGET_DIR/$target/$folder/ipamd
if ldd "$binary" 2>&1 | grep -q '=>'; then
    echo "$binary is not static" >&2
    exit 1
fi
echo "ipamd: $(stat --format=%s "$binary") bytes with $libc" >&2
echo "$binary"
