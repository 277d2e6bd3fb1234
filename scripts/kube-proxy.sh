#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kube-proxy 1.20.2, built from Debian 12's source (scripts/kubernetes-source.sh). Only the program is kept. Prints its path.
# Idempotent. ENID_KUBE_PROXY names another place for it, or one that is there: then nothing is built.
set -euo pipefail
source "$(dirname "$0")/kubernetes-source.sh"

out=${ENID_KUBE_PROXY:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/kube-proxy}

fail() {
    echo "kube-proxy: $*" >&2
    echo "kube-proxy: set ENID_KUBE_PROXY to a kube-proxy $kubernetes_version built elsewhere" >&2
    exit 1
}

is_built() { [ -x "$out" ] && [ "$("$out" --version 2>/dev/null)" = "Kubernetes $kubernetes_version" ]; }

build() { # build <folder> <log>
    kubernetes_source "$1" "$2"
    kubernetes_build "$1/out" "$2" kube-proxy
}

if ! is_built; then
    [ ! -e "$out" ] || fail "$out is there and is not $kubernetes_version"
    mkdir -p "$(dirname "$out")"
    out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
    echo "kube-proxy: building kube-proxy $kubernetes_version from Debian's source into $out (about 3 minutes, once)" >&2
    work=$(mktemp -d "$out.build.XXXXXX")
    # Go makes what it caches read-only.
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    : >"$out.log"
    (build "$work" "$out.log")
    mv "$work/out/kube-proxy" "$out"
    is_built || fail "$out is not $kubernetes_version"
    rm -f "$out.log"
fi
echo "$out"
