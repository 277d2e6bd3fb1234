#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Peers that are not ours, in Go: libcni, the CNI runtime library that containerd and CRI-O call plugins with, and gRPC's own
# implementation, with which the plugin, the daemon and the network policy agent of the reference are played. Our two programs
# (integration/go) are built on Debian's packages of these libraries with Debian's Go; nothing is installed into the host, and nothing
# else is fetched. Prints the folder. Idempotent; built anew when the sources change. ENID_GO_CALLERS names another folder:
#   libcni   wire   plugins/{bandwidth,tuning}
#
# Go, gRPC and protobuf are Debian 13's. libcni that knows GC and STATUS (CNI 1.1.0), and plugins that do, are in no release yet:
# they come from forky or sid, whichever has them. protoc is Debian 12's, whose libraries start on it and on later ones.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

out=${ENID_GO_CALLERS:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/go-callers}
sources=$PWD/integration/go
go_version=1.24
stable=(trixie "golang-$go_version-go" "golang-$go_version-src" golang-google-grpc-dev golang-google-protobuf-dev golang-google-genproto-dev golang-github-golang-protobuf-1-5-dev
    golang-golang-x-net-dev golang-golang-x-sys-dev golang-golang-x-text-dev protoc-gen-go protoc-gen-go-grpc)
protoc=(bookworm protobuf-compiler libprotoc32 libprotobuf32 libprotobuf-dev)

fail() {
    echo "go-callers: $*" >&2
    echo "go-callers: name a folder as the head of $0 says in ENID_GO_CALLERS" >&2
    exit 1
}

stamp=$(cat scripts/{go-callers,debian}.sh "$sources"/*/*.go "$sources"/*/*.proto | sha256sum | cut -d' ' -f1)

is_built() { # is_built <folder>
    [ -x "$1/libcni" ] && [ -x "$1/wire" ] && [ -x "$1/plugins/tuning" ] && [ -x "$1/plugins/bandwidth" ]
}

fetch_cni() { # sets cni to the release that has a libcni with GC, and plugins that start here
    local tree=usr/share/gocode/src/github.com/containernetworking/cni
    for cni in forky sid; do
        debian_fetch "$work" "$cni" golang-github-appc-cni-dev containernetworking-plugins || continue
        grep -q GCNetworkList "$work/$cni/root/$tree/libcni/api.go" 2>>"$work/log" || continue
        "$work/$cni/root/usr/lib/cni/tuning" </dev/null >>"$work/log" 2>&1 && return
    done
    fail "neither forky nor sid of Debian has a libcni with GC and plugins that start here: $(tail -3 "$work/log")"
}

build() {
    local root=$work/trixie/root gopath=$work/gopath bin=$work/out
    mkdir -p "$gopath/src/enid" "$bin/plugins"
    cp -r "$sources"/* "$gopath/src/enid/"
    PATH=$root/usr/bin:$PATH LD_LIBRARY_PATH=$(echo "$work"/bookworm/root/usr/lib/*-linux-gnu) \
        "$work/bookworm/root/usr/bin/protoc" -I "$gopath/src/enid/wire" -I "$work/bookworm/root/usr/include" \
        --go_out="$gopath/src" --go-grpc_out="$gopath/src" reference.proto >>"$work/log" 2>&1 ||
        fail "protoc failed: $(tail -3 "$work/log")"
    # Debian's Go leaves its sources in /usr/share, and links to there.
    rm -rf "$root/usr/lib/go-$go_version/src"
    ln -s "$root/usr/share/go-$go_version/src" "$root/usr/lib/go-$go_version/src"
    export GOROOT=$root/usr/lib/go-$go_version GOPATH=$gopath:$root/usr/share/gocode:$work/$cni/root/usr/share/gocode
    export GOCACHE=$work/cache GOTMPDIR=$work GO111MODULE=off GOFLAGS= CGO_ENABLED=0 GOTOOLCHAIN=local
    local program
    for program in libcni wire; do
        nice "$GOROOT/bin/go" build -p 2 -ldflags '-s -w' -o "$bin/$program" "enid/$program" >>"$work/log" 2>&1 ||
            fail "building integration/go/$program failed: $(tail -5 "$work/log")"
    done
    cp "$work/$cni/root/usr/lib/cni"/{bandwidth,tuning} "$bin/plugins/"
    echo "$stamp" >"$bin/stamp"
}

# Without a stamp it is somebody else's: as it is.
if is_built "$out" && [ ! -e "$out/stamp" ]; then
    :
elif ! is_built "$out" || [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
    [ ! -e "$out" ] || [ -e "$out/stamp" ] || fail "$out is there, but not libcni, wire and plugins/{bandwidth,tuning}"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch Go and its libraries with"
    mkdir -p "$(dirname "$out")"
    echo "go-callers: building libcni's and gRPC's callers on Debian's packages into $out (about a minute and a half)" >&2
    work=$(mktemp -d "$(cd "$(dirname "$out")" && pwd)/go-callers.XXXXXX")
    # Go makes what it caches read-only.
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    debian_fetch "$work" "${stable[@]}" || fail "Debian trixie's Go or its libraries: $(tail -3 "$work/log")"
    debian_fetch "$work" "${protoc[@]}" || fail "Debian bookworm's protoc: $(tail -3 "$work/log")"
    fetch_cni
    build
    rm -rf "$out"
    mv "$work/out" "$out"
fi
cd "$out" && pwd
