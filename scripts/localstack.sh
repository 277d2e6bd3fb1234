#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# LocalStack core, an EC2 that we did not write, in a virtual environment inside the build folder.
#
#   localstack.sh install          once, about 70 s and 250 MB, from PyPI only
#   localstack.sh run PORT DIR     in the foreground on 127.0.0.1:PORT, state below DIR; DIR/preload.json names what is
#                                  there, DIR/peer.json the versions and the mends
#
# Two mends are applied to it, and said in its output, because without them it is no peer for an address manager: its MAC
# addresses do not parse, and it draws addresses at random without looking at what is taken.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ENID_LOCALSTACK:?the folder to keep LocalStack in}
source "$here/peers/python.sh"

run() {
    local port=$1 dir=$2
    mkdir -p "$dir/etc/localstack/init/start.d" "$dir/etc/localstack/init/ready.d"
    cp "$here/peers/mends.py" "$dir/etc/localstack/init/start.d/"
    cp "$here/peers/localstack-preload.py" "$dir/etc/localstack/init/ready.d/"
    use_libraries
    # hypercorn: the default server listens on every address whatever GATEWAY_LISTEN says. OVERRIDE_IN_DOCKER: it must not
    # take this machine for its container and write outside DIR. The rest keeps it off the network.
    exec env OVERRIDE_IN_DOCKER=0 FILESYSTEM_ROOT="$dir" GATEWAY_SERVER=hypercorn GATEWAY_LISTEN="127.0.0.1:$port" \
        SERVICES=ec2,sts,iam EAGER_SERVICE_LOADING=0 DNS_ADDRESS=0 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 \
        ENID_PEER="$dir/peer.json" "$python" -m localstack.runtime.main
}

case "${1:-}" in
install)
    # Upper bounds: later cbor2 and pyopenssl break this version with misleading errors.
    install_packages 'LocalStack core 4.14.0, about 70 s and 250 MB,' \
        'localstack-core[base-runtime]==4.14.0' 'moto-ext[ec2]==5.1.54' 'cbor2<6' 'pyopenssl<26'
    echo "LocalStack core 4.14.0 in host mode, with two mends: well-formed MAC addresses; free, unreserved private addresses"
    ;;
run) run "${2:?port}" "${3:?folder}" ;;
*) echo "usage: localstack.sh install | run PORT DIR" >&2; exit 64 ;;
esac
