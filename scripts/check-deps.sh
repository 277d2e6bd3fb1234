#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The dependency rules of ARCHITECTURE.md, proven with cargo tree: purity is a crate boundary, not a promise. Licences, sources, doubled
# versions, who may see the AWS SDK and Kubernetes' API: deny.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0
complain() { echo "check-deps: $*" >&2; failed=1; }

# tree <cargo tree arguments>: crate names, one a line, without dev-dependencies
tree() { cargo tree --locked -e normal --prefix none --format '{p}' "$@" | awk '{print $1}' | sort -u; }

# forbid <what> <pattern> <cargo tree arguments>: no crate of the tree may match
forbid() {
    local what=$1 pattern=$2 found
    shift 2
    found=$(tree "$@" | grep -xE "$pattern" | paste -sd' ' || true)
    [ -z "$found" ] || complain "$what must not depend on: $found"
}

io='tokio|hyper|tonic|axum|rtnetlink|netlink-.*|nix|rustix|libc|mio|socket2|aws-.*|kube|kube-.*|k8s-openapi'
forbid "ipamd-core (the pure core)" "$io" -p ipamd-core
[ "$(tree -p instance-limits)" = instance-limits ] || complain "instance-limits depends on something"
forbid "ipamd-simulate (the pure simulation)" "$io" -p ipamd-simulate
forbid "vpc-model (the pure VPC model)" "$io" -p vpc-model
forbid "datapath without the feature apply (the pure plan)" 'tokio|rtnetlink|netlink-.*|nix|rustix|aws-.*' -p datapath --no-default-features
forbid "cni-plugin" 'aws-.*|kube|kube-.*|k8s-openapi|rtnetlink|tracing-subscriber|clap|axum|hyper|hyper-util|h2|ipamd.*' -p cni-plugin
forbid "integration (drives the binaries)" 'ipamd|ipamd-.*|aws-.*' -p integration

# The plugin has no runtime: what tonic's types bring of tokio is its channels.
if cargo tree --locked -e features,normal -p cni-plugin -i tokio 2>/dev/null | grep -qE 'tokio feature "(rt|rt-multi-thread|net|time)"'; then
    complain "cni-plugin enables a runtime of tokio's"
fi

# Nothing depends on the daemon or the harness.
users() { cargo tree --locked --workspace -e normal -i "$1" --depth 1 --prefix depth --format ' {p}' 2>/dev/null | awk '$1=="1"{print $2}' | sort -u | paste -sd' '; }
for leaf in ipamd integration; do
    [ -z "$(users "$leaf")" ] || complain "$(users "$leaf") depends on $leaf; nothing may"
done

# Each direct dependency has its reason and its users in docs/dependencies.md, and no other is there: a line a dependency of the
# manifests, as `name user, user`, beside the table's.
mapfile -t members < <(sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' Cargo.toml)
declared=$(awk '
    /^\[/ { section = $0 }
    section == "[package]" && /^name = / { user = $3; gsub(/"/, "", user); ours[user] = 1 }
    section ~ /^\[(dev-|build-)?dependencies\]$/ && match($0, /^[A-Za-z0-9_-]+/) { uses[substr($0, 1, RLENGTH) " " user] = 1 }
    END { for (use in uses) { split(use, words, " "); if (!ours[words[1]]) print use } }
' "${members[@]/%//Cargo.toml}" | LC_ALL=C sort | awk '{ all[$1] = all[$1] ? all[$1] ", " $2 : $2 } END { for (name in all) print name, all[name] }')
listed=$(awk -F' *[|] *' '/^\| / && $2 != "dependency" { print $2, $3 }' docs/dependencies.md)
differs=$(diff <(LC_ALL=C sort <<<"$declared") <(LC_ALL=C sort <<<"$listed") | sed -n 's/^</manifests:/p; s/^>/table:/p' || true)
[ -z "$differs" ] || complain "docs/dependencies.md is not what the manifests say:"$'\n'"$differs"

# The fuzzers are built from the versions that are shipped: their lock file has no other, but for libFuzzer and the plugin as a library.
versions() { awk '/^name = /{ name = $3 } /^version = /{ print name, $3 }' "$1" | sort -u; }
more=$(comm -13 <(versions Cargo.lock) <(versions fuzz/Cargo.lock) | grep -vE '^"(enid-fuzz|fuzz-plugin|libfuzzer-sys|arbitrary|jobserver)" ' | paste -sd' ' || true)
[ -z "$more" ] || complain "fuzz/Cargo.lock has other versions than Cargo.lock: $more"

[ "$failed" = 0 ] && echo "check-deps: all rules hold"
exit "$failed"
