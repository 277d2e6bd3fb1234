#!/usr/bin/env bash
# Runs cargo-nextest; installs it into the build folder when the host has none. Tests need one process each: they make
# namespaces, and a namespace ends with its process.
set -euo pipefail
version=0.9.143
if ! cargo nextest --version >/dev/null 2>&1; then
    root="${CARGO_TARGET_DIR:?}/enid/cargo"
    if [ ! -x "$root/bin/cargo-nextest" ]; then
        echo "cargo-nextest is not installed; building $version into $root (about 3 minutes, once)"
        cargo install --locked --version "$version" --root "$root" --target-dir "$root/build" cargo-nextest
        rm -rf "$root/build"
    fi
    export PATH="$root/bin:$PATH"
fi
exec cargo nextest "$@"
