#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Container runtimes that call the plugin in tests: containerd of the 1.x and of the 2.x line and podman 4 with runc, the `loopback`
# plugin that containerd runs beside ours, and a static busybox for the containers. Unpacked from Debian packages into a folder below
# the build folder; nothing is installed into the host, and nothing is started. The 1.x line is the host's own release's or, where
# that has none, Debian bookworm's; the 2.x line comes from a later release; podman is bookworm's, the last with CNI. Prints the
# folder. Idempotent. ENID_RUNTIMES names another one:
#   containerd-1/{containerd,ctr,containerd-shim-runc-v2}   containerd-2/…   podman/usr/{bin/{podman,conmon},lib}
#   runc   loopback   busybox
set -euo pipefail
source "$(dirname "$0")/debian.sh"

out=${ENID_RUNTIMES:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/runtimes}
shim=containerd-shim-runc-v2

fail() {
    echo "runtimes: $*" >&2
    echo "runtimes: name a folder as the head of $0 says in ENID_RUNTIMES" >&2
    exit 1
}

major() { "$1" --version 2>/dev/null | sed -nE 's/^containerd [^ ]+ v?([0-9]+)\..*/\1/p'; }

missing() { # missing <folder>: what does not start, in one line
    local line
    for line in 1 2; do
        [ "$(major "$1/containerd-$line/containerd")" = "$line" ] || printf 'containerd %s.x ' "$line"
    done
    LD_LIBRARY_PATH=$(echo "$1"/podman/usr/lib/*-linux-gnu) "$1/podman/usr/bin/podman" --version 2>/dev/null | grep -q ' 4\.' ||
        printf 'podman 4 '
    "$1/runc" --version >/dev/null 2>&1 || printf 'runc '
    "$1/busybox" true >/dev/null 2>&1 || printf 'busybox '
    [ -x "$1/loopback" ] || printf 'loopback '
}

take_containerd() { # take_containerd <line> <release>…: of the first one that has it and whose programs start here
    local line=$1 release
    shift
    for release in "$@"; do
        debian_fetch "$work" "$release" containerd || continue
        [ "$(major "$work/$release/root/usr/bin/containerd")" = "$line" ] || continue
        mkdir -p "$work/out/containerd-$line"
        cp "$work/$release"/root/usr/bin/{containerd,ctr,$shim} "$work/out/containerd-$line/"
        return
    done
    fail "no Debian release of $* has a containerd $line.x that starts here: $(tail -3 "$work/log")"
}

if [ -n "$(missing "$out")" ]; then
    [ ! -e "$out" ] || fail "$out is there, but not $(missing "$out")"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch $(missing "$out")with"
    mkdir -p "$(dirname "$out")"
    echo "runtimes: unpacking Debian's containerd, podman and runc into $out" >&2
    work=$(mktemp -d "$(cd "$(dirname "$out")" && pwd)/runtimes.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/out"
    debian_fetch "$work" - runc containernetworking-plugins busybox-static || fail "apt-get failed: $(tail -3 "$work/log")"
    cp "$(find "$work/-/root" -path '*sbin/runc' -type f | head -1)" "$work/out/runc"
    cp "$work/-/root/usr/lib/cni/loopback" "$work/out/loopback"
    cp "$(find "$work/-/root" -path '*bin/busybox' -type f | head -1)" "$work/out/busybox"
    take_containerd 1 - bookworm trixie
    take_containerd 2 sid forky
    # And of the libraries that they link, what a slim Debian may lack.
    debian_fetch "$work" bookworm podman conmon libgpgme11 libassuan0 libsubid4 libglib2.0-0 libdevmapper1.02.1 ||
        fail "apt-get failed: $(tail -3 "$work/log")"
    mkdir -p "$work/out/podman/usr/bin"
    cp "$work"/bookworm/root/usr/bin/{podman,conmon} "$work/out/podman/usr/bin/"
    cp -a "$work/bookworm/root/usr/lib" "$work/out/podman/usr/"
    cp -a "$work"/bookworm/root/lib/*-linux-gnu "$work/out/podman/usr/lib/" 2>/dev/null || true
    rm -rf "$work/out/podman/usr/lib/"{systemd,tmpfiles.d}
    [ -z "$(missing "$work/out")" ] || fail "Debian's packages do not have $(missing "$work/out")"
    mv "$work/out" "$out"
fi
cd "$out" && pwd
