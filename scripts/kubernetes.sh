#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Kubernetes for `make test-cluster`: API server, controller manager, scheduler and kubelet 1.20.2 built from Debian 12's source
# (scripts/kubernetes-source.sh), and that release's etcd. Only the programs are kept. Prints their folder. Idempotent.
# ENID_KUBERNETES names another folder with the same programs of any version, a newer one say: then nothing is built.
#   kube-apiserver   kube-controller-manager   kube-scheduler   kubelet   etcd   kube-proxy (not asked for: ENID_KUBE_PROXY is taken)
set -euo pipefail
source "$(dirname "$0")/kubernetes-source.sh"

out=${ENID_KUBERNETES:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/kubernetes}
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

fail() {
    echo "kubernetes: $*" >&2
    echo "kubernetes: name a folder as the head of $0 says in ENID_KUBERNETES" >&2
    exit 1
}

missing() { # missing <folder>: what does not start, in one line
    local program
    for program in "${programs[@]}" etcd; do
        "$1/$program" --version >/dev/null 2>&1 || printf '%s ' "$program"
    done
}

# generate_openapi <folder> <log>: what the API server says about its types is generated, and not in the tarball.
generate_openapi() {
    local vendor=k8s.io/kubernetes/vendor/k8s.io packages
    local types=$vendor/apimachinery/pkg
    nice -n 10 "$GOROOT/bin/go" build -p 2 -o "$1/openapi-gen" "$vendor/kube-openapi/cmd/openapi-gen" >>"$2" 2>&1 ||
        fail "building openapi-gen failed: $(tail -3 "$2")"
    packages=$(grep -rl --include='*.go' '^// *+k8s:openapi-gen=true' pkg staging/src/k8s.io |
        grep -v '_test.go\|/testdata/\|/test/\|sample-\|code-generator' | xargs -n1 dirname | sort -u |
        sed -e 's#^staging/src/#vendor/#' -e 's#^#k8s.io/kubernetes/#' | paste -sd,)
    packages+=,$types/version,$types/runtime,$types/apis/meta/v1,$types/api/resource,$types/util/intstr
    nice -n 10 "$1/openapi-gen" -h hack/boilerplate/boilerplate.generatego.txt -O zz_generated.openapi --output-base "$1/go/src" \
        -p k8s.io/kubernetes/pkg/generated/openapi -r "$1/violations.txt" -i "$packages" >>"$2" 2>&1 ||
        fail "openapi-gen failed: $(tail -3 "$2")"
}

build() { # build <folder> <log>
    kubernetes_source "$1" "$2" etcd-server
    generate_openapi "$1" "$2"
    kubernetes_build "$1/out" "$2" "${programs[@]}"
    cp "$1/debian/usr/bin/etcd" "$1/out/etcd"
    [ -z "$(missing "$1/out")" ] || fail "built, but these do not start: $(missing "$1/out")"
}

if [ -n "$(missing "$out")" ]; then
    [ ! -e "$out" ] || fail "$out is there, but not $(missing "$out")"
    mkdir -p "$(dirname "$out")"
    out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
    echo "kubernetes: building Kubernetes $kubernetes_version from Debian's source into $out (about 8 minutes of two processors, once)" >&2
    work=$(mktemp -d "$out.build.XXXXXX")
    # Go makes what it caches read-only.
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    : >"$work/log"
    (build "$work" "$work/log")
    # Whoever built beside us may have been first: that one's programs are as good.
    mv -T "$work/out" "$out" 2>/dev/null || [ -z "$(missing "$out")" ] || fail "$out is there, but not $(missing "$out")"
fi
cd "$out" && pwd
