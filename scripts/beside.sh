#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes what tests drive besides our own programs ready while another command runs, cargo's builds above all: fetching waits for others,
# and a build has long stretches of one compiler.
# usage: beside.sh TARGET… -- COMMAND…
#
# The targets are make's, three at a time in the order given, so that the longest ones come first; what each says comes in one piece
# when it is done. The command has the terminal. One that fails is told at once, with all that it said, and again at the end, when the
# others and the command are done: what they have made need not be made again.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    targets+=("$1")
    shift
done
[ $# -gt 1 ] && [ ${#targets[@]} -gt 0 ] || { echo "usage: beside.sh TARGET… -- COMMAND…" >&2; exit 64; }
shift

prepare() { # prepare <target>
    local log=$logs/$1 start=$SECONDS end
    # Not of the make that called this: its `-j` is no business of theirs.
    if env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory "$1" >"$log" 2>&1 </dev/null; then
        end=ready
    else
        end=FAILED
        : >"$log.failed"
    fi
    { cat "$log" && printf '\033[1m== %s: %s after %d s\033[0m\n' "$1" "$end" $((SECONDS - start)); } >"$log.said"
    flock "$logs" cat "$log.said"
    [ "$end" = ready ]
}
export -f prepare
logs=$(mktemp -d)
export logs

# A process group of its own, to end all of it when this ends early.
set -m
printf '%s\n' "${targets[@]}" | xargs -P 3 -I{} bash -euo pipefail -c 'prepare {}' &
beside=$!
set +m
trap 'kill -- "-$beside" 2>/dev/null || true; rm -rf "$logs"' EXIT

status=0
env -u MAKEFLAGS -u MAKELEVEL "$@" || status=$?
wait "$beside" || true
for target in "${targets[@]}"; do
    # Neither: it was not reached.
    if [ ! -e "$logs/$target.said" ] || [ -e "$logs/$target.failed" ]; then
        echo "beside: $target is NOT ready: \`make $target\` says why" >&2
        status=1
    fi
done
exit "$status"
