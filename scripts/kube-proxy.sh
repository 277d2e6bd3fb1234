#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kube-proxy 1.20.2, built from the source package `kubernetes` of Debian 12, the last one that holds the whole of
# Kubernetes, with that release's Go. Nothing is installed into the host: apt works with a list of sources and folders of its
# own, which come from the host's own line for Debian; packages are unpacked below the build folder. Only the program is kept.
# Prints its path. Idempotent. ENID_KUBE_PROXY names another place for it, or one that is there: then nothing is built.
#
# Upstream's tarball is built, without Debian's patches. 81 MB of Go and 34 MB of source; 1.5 GB of disk while it runs.
set -euo pipefail

version=v1.20.2
suite=bookworm
out=${ENID_KUBE_PROXY:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/kube-proxy}
go_packages=(golang-1.19-go golang-1.19-src)

fail() {
    echo "kube-proxy: $*" >&2
    echo "kube-proxy: set ENID_KUBE_PROXY to a kube-proxy $version built elsewhere" >&2
    exit 1
}

is_built() { [ -x "$out" ] && [ "$("$out" --version 2>/dev/null)" = "Kubernetes $version" ]; }

# own_line <suite>: of the host's line for a suite of Debian, in either of apt's two formats: "URI keyring", the second may be
# missing
own_line() {
    local files=()
    shopt -s nullglob
    files=(/etc/apt/sources.list.d/*.sources)
    [ ${#files[@]} -eq 0 ] || awk -v suite="$1" 'BEGIN { RS = "" } {
        uri = keyring = ""; has_suite = has_main = 0
        lines = split($0, line, "\n")
        for (i = 1; i <= lines; i++) {
            words = split(line[i], word, " ")
            if (word[1] == "URIs:") uri = word[2]
            if (word[1] == "Signed-By:") keyring = word[2]
            for (j = 2; j <= words; j++) {
                if (word[1] == "Suites:" && word[j] == suite) has_suite = 1
                if (word[1] == "Components:" && word[j] == "main") has_main = 1
            }
        }
        if (has_suite && has_main) print uri, keyring
    }' "${files[@]}"
    files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list)
    { cat "${files[@]}" 2>/dev/null || true; } | sed -nE "s/^deb (\[[^]]*\] )?([^ ]+) $1 (.* )?main( .*)?$/\2 \1/p" |
        sed -E 's/ \[.*signed-by=([^] ]+).*\]/ \1/; s/ \[.*//'
}

# use_own_apt <folder>: apt with lists and caches in a folder, for the sources and programs of the suite
use_own_apt() {
    local uri keyring codename
    codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || fail "this is no Debian"
    read -r uri keyring < <(own_line "$codename") || fail "apt has no line for Debian's $codename with main"
    mkdir -p "$1"/lists/partial "$1"/cache/archives/partial
    printf '%s\n' 'Types: deb deb-src' "URIs: $uri" "Suites: $suite" 'Components: main' >"$1/own.sources"
    [ -z "$keyring" ] || echo "Signed-By: $keyring" >>"$1/own.sources"
    # As root apt would switch to a user that cannot write here.
    printf '%s "%s";\n' Dir::Etc::sourcelist "$1/own.sources" Dir::Etc::sourceparts - Dir::State::lists "$1/lists" \
        Dir::Cache "$1/cache" APT::Sandbox::User root >"$1/apt.conf"
    export APT_CONFIG=$1/apt.conf
}

build() {
    local work=$1 log=$2 tree=$1/go/src/k8s.io/kubernetes
    use_own_apt "$work/apt"
    cd "$work"
    apt-get update -qq >>"$log" 2>&1 || fail "apt-get update failed: $(tail -3 "$log")"
    apt-get source -qq --download-only --tar-only kubernetes >>"$log" 2>&1 || fail "no source package: $(tail -3 "$log")"
    apt-get download -qq "${go_packages[@]}" >>"$log" 2>&1 || fail "no Go: $(tail -3 "$log")"
    local package
    for package in *.deb; do dpkg -x "$package" "$work/debian"; done
    mkdir -p "$tree"
    tar xzf kubernetes_*.orig.tar.gz -C "$tree" --strip-components=1
    rm -f -- *.deb ./*.tar.gz
    cd "$tree"
    # Without GO111MODULE=off: "updates to go.mod needed". Debian's Go comes with its standard library compiled; -trimpath
    # would compile that too.
    export GOROOT=$work/debian/usr/lib/go-1.19 GOPATH=$work/go GOCACHE=$work/cache GOTMPDIR=$work GO111MODULE=off GOFLAGS= CGO_ENABLED=0
    local mark=k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion
    nice "$GOROOT/bin/go" build -p 2 -ldflags "-s -w -X $mark=$version" -o "$work/kube-proxy" ./cmd/kube-proxy >>"$log" 2>&1 ||
        fail "go build failed: $(tail -3 "$log")"
    "$work/kube-proxy" --version >>"$log" 2>&1 || fail "what was built does not start: $(tail -3 "$log")"
}

if ! is_built; then
    [ ! -e "$out" ] || fail "$out is there and is not $version"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "there is no apt-get to fetch its source with"
    mkdir -p "$(dirname "$out")"
    out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
    echo "kube-proxy: building kube-proxy $version from Debian's source into $out (about 3 minutes, once)" >&2
    work=$(mktemp -d "$out.build.XXXXXX")
    # Go makes what it caches read-only.
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    : >"$out.log"
    (build "$work" "$out.log")
    mv "$work/kube-proxy" "$out"
    is_built || fail "$out is not $version"
    rm -f "$out.log"
fi
echo "$out"
