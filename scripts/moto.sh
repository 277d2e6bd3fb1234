#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# moto server, another EC2 that we did not write, in a virtual environment inside the build folder.
#
#   moto.sh install          once, about 30 s and 150 MB, from PyPI only
#   moto.sh run PORT DIR     in the foreground on 127.0.0.1:PORT; DIR/peer.json has the versions and the mends
#
# One mend is applied to it, and said in its output: it draws addresses at random without looking at what is taken.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ENID_MOTO:?the folder to keep moto in}
source "$here/peers/python.sh"

run() {
    local port=$1 dir=$2
    mkdir -p "$dir"
    use_libraries
    # Its own list of machine images is not needed and takes a second.
    exec env MOTO_EC2_LOAD_DEFAULT_AMIS=false ENID_PEER="$dir/peer.json" "$python" "$here/peers/moto-serve.py" "$port"
}

case "${1:-}" in
install)
    # Not moto[server], which brings what its other services need: twice the size.
    install_packages 'moto 5.2.5, about 30 s and 150 MB,' 'moto[ec2]==5.2.5' 'flask<4' 'flask-cors<7'
    echo "moto server 5.2.5, with a mend: free, unreserved private addresses"
    ;;
run) run "${2:?port}" "${3:?folder}" ;;
*) echo "usage: moto.sh install | run PORT DIR" >&2; exit 64 ;;
esac
