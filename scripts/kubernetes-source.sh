# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts that build programs of Kubernetes 1.20.2 from the source package `kubernetes` of Debian 12, the last one
# that holds the whole of Kubernetes, with that release's Go. Nothing is installed into the host: apt works with a list of sources
# and folders of its own, which come from the host's own line for Debian; packages are unpacked below a folder of the caller's.
# The caller has `fail`, which says why and leaves.
#
# Upstream's tarball is built, without Debian's patches. 81 MB of Go and 34 MB of source; 1.5 GB of disk and more while it runs.

kubernetes_version=v1.20.2
kubernetes_suite=bookworm

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
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "there is no apt-get to fetch its source with"
    codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || fail "this is no Debian"
    read -r uri keyring < <(own_line "$codename") || fail "apt has no line for Debian's $codename with main"
    mkdir -p "$1"/lists/partial "$1"/cache/archives/partial
    printf '%s\n' 'Types: deb deb-src' "URIs: $uri" "Suites: $kubernetes_suite" 'Components: main' >"$1/own.sources"
    [ -z "$keyring" ] || echo "Signed-By: $keyring" >>"$1/own.sources"
    # As root apt would switch to a user that cannot write here.
    printf '%s "%s";\n' Dir::Etc::sourcelist "$1/own.sources" Dir::Etc::sourceparts - Dir::State::lists "$1/lists" \
        Dir::Cache "$1/cache" APT::Sandbox::User root >"$1/apt.conf"
    export APT_CONFIG=$1/apt.conf
}

# kubernetes_source <folder> <log> [<package>…]: the source and Go below the folder, and packages of the same release beside them
# in <folder>/debian. The working directory is then the source's, and Go's variables are set.
kubernetes_source() {
    local work=$1 log=$2 tree=$1/go/src/k8s.io/kubernetes package
    shift 2
    use_own_apt "$work/apt"
    cd "$work"
    apt-get update -qq >>"$log" 2>&1 || fail "apt-get update failed: $(tail -3 "$log")"
    apt-get source -qq --download-only --tar-only kubernetes >>"$log" 2>&1 || fail "no source package: $(tail -3 "$log")"
    apt-get download -qq golang-1.19-go golang-1.19-src "$@" >>"$log" 2>&1 || fail "no Go: $(tail -3 "$log")"
    for package in *.deb; do dpkg -x "$package" "$work/debian"; done
    mkdir -p "$tree"
    tar xzf kubernetes_*.orig.tar.gz -C "$tree" --strip-components=1
    rm -f -- *.deb ./*.tar.gz
    cd "$tree"
    # Without GO111MODULE=off: "updates to go.mod needed". Debian's Go comes with its standard library compiled; -trimpath
    # would compile that too.
    export GOROOT=$work/debian/usr/lib/go-1.19 GOPATH=$work/go GOCACHE=$work/cache GOTMPDIR=$work GO111MODULE=off GOFLAGS= CGO_ENABLED=0
}

# kubernetes_build <folder> <log> <program>…: in the source, into the folder. Nodes tell the API server their version, and clients
# decide by the API server's: both are told at link time.
kubernetes_build() {
    local out=$1 log=$2 vendor=k8s.io/kubernetes/vendor/k8s.io mark flags='-s -w' program
    shift 2
    for mark in "$vendor/component-base/version" "$vendor/client-go/pkg/version"; do
        flags+=" -X $mark.gitVersion=$kubernetes_version -X $mark.gitMajor=1 -X $mark.gitMinor=20 -X $mark.gitTreeState=clean"
    done
    mkdir -p "$out"
    nice -n 10 "$GOROOT/bin/go" build -p 2 -ldflags "$flags" -o "$out/" "${@/#/./cmd/}" >>"$log" 2>&1 ||
        fail "go build failed: $(tail -3 "$log")"
    for program in "$@"; do
        "$out/$program" --version >>"$log" 2>&1 || fail "$program was built and does not start: $(tail -3 "$log")"
    done
}
