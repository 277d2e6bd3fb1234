#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the daemon and the plugin of an earlier version, for tests of both versions on one node (`make test-upgrade`).
# usage: previous.sh [ref]     a git ref; the latest tag v* by default
# The source is a worktree of git's below the build folder, and is compiled in folders of its own there, with that version's own
# scripts: nothing of this version's build is touched. Prints the folder with `ipamd` and `aws-cni` in it. A ref that was built is not
# built again.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "previous.sh: $*" >&2
    exit 1
}

build=${ENID_BUILD:-${CARGO_TARGET_DIR:-$PWD/target}}
ref=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)} ||
    fail "there is no tag v* yet; name a git ref: make test-upgrade REF=..."
commit=$(git rev-parse --verify --quiet "$ref^{commit}") || fail "git knows no $ref"
folder=$build/enid/previous/$commit
if [ -x "$folder/ipamd" ] && [ -x "$folder/aws-cni" ]; then
    echo "$folder"
    exit 0
fi

source_folder=$build/enid/previous/source
own=$(cd "$(git rev-parse --git-common-dir)" && pwd -P)
its=$(cd "$source_folder" 2>/dev/null && cd "$(git rev-parse --git-common-dir 2>/dev/null)" 2>/dev/null && pwd -P) || its=
if [ "$its" = "$own" ]; then
    git -C "$source_folder" checkout --quiet --detach "$commit" || fail "checking out $ref in $source_folder"
else
    # A clone that shares the build folder made it, and may be gone.
    rm -rf "$source_folder"
    git worktree prune
    git worktree add --quiet --detach "$source_folder" "$commit" || fail "a worktree of $ref at $source_folder"
fi
mkdir -p "$folder"
(
    cd "$source_folder"
    unset ENID_SDK ENID_CNI_PLUGIN ENID_IPAMD
    export ENID_BUILD=$build/enid/previous/target CARGO_TARGET_DIR=$build/enid/previous/target
    . scripts/sdk.sh
    cargo build --quiet --config "$ENID_SDK" -p ipamd --bins
    cp "$CARGO_TARGET_DIR/debug/ipamd" "$folder/ipamd"
    CARGO_TARGET_DIR=$ENID_BUILD scripts/build-plugin.sh "$folder/aws-cni" >&2
) || fail "building $ref ($commit) failed"
echo "$folder"
