#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# LocalStack core, the EC2 that we did not write, in a virtual environment inside the build folder.
#
#   localstack.sh install          once, about 70 s and 250 MB, from PyPI only
#   localstack.sh run PORT DIR     in the foreground on 127.0.0.1:PORT, state below DIR; DIR/preload.json names what is there
#
# Two mends are applied to it, and said in its output, because without them it is no peer for an address manager: its MAC
# addresses do not parse, and it draws addresses at random without looking at what is taken.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ENID_LOCALSTACK:?the folder to keep LocalStack in}
python=$root/venv/bin/python

install() {
    if [ -f "$root/installed" ]; then return; fi
    command -v python3 >/dev/null || { echo "localstack.sh: python3 is needed to install LocalStack" >&2; exit 1; }
    if ! python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
        echo "localstack.sh: LocalStack 4.14.0 needs Python 3.10 to 3.13, found $(python3 --version)" >&2
        exit 1
    fi
    echo "installing LocalStack core 4.14.0 into $root (about 70 s and 250 MB, once)"
    mkdir -p "$root"
    rm -rf "$root/venv"
    python3 -m venv "$root/venv"
    # Upper bounds: later cbor2 and pyopenssl break this version with misleading errors.
    "$python" -m pip install --quiet --disable-pip-version-check \
        'localstack-core[base-runtime]==4.14.0' 'moto-ext[ec2]==5.1.54' 'cbor2<6' 'pyopenssl<26'
    touch "$root/installed"
}

run() {
    local port=$1 dir=$2
    mkdir -p "$dir/etc/localstack/init/start.d" "$dir/etc/localstack/init/ready.d"
    cp "$here/localstack/10-fix.py" "$dir/etc/localstack/init/start.d/"
    cp "$here/localstack/20-preload.py" "$dir/etc/localstack/init/ready.d/"
    # hypercorn: the default server listens on every address whatever GATEWAY_LISTEN says. OVERRIDE_IN_DOCKER: it must not
    # take this machine for its container and write outside DIR. The rest keeps it off the network.
    exec env OVERRIDE_IN_DOCKER=0 FILESYSTEM_ROOT="$dir" GATEWAY_SERVER=hypercorn GATEWAY_LISTEN="127.0.0.1:$port" \
        SERVICES=ec2,sts,iam EAGER_SERVICE_LOADING=0 DNS_ADDRESS=0 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 \
        "$python" -m localstack.runtime.main
}

case "${1:-}" in
install)
    install
    echo "LocalStack core 4.14.0 in host mode, with two mends: well-formed MAC addresses; free, unreserved private addresses"
    ;;
run) run "${2:?port}" "${3:?folder}" ;;
*) echo "usage: localstack.sh install | run PORT DIR" >&2; exit 64 ;;
esac
