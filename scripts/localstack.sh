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

# Debian 12's own Python, unpacked below the root, for a host that has none that fits.
packages=(
    python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib python3-pip-whl
    libexpat1 libsqlite3-0 libreadline8 libffi8 libssl3 zlib1g libbz2-1.0 liblzma5 libuuid1 libncursesw6 libtinfo6 libcrypt1
    libnsl2 libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1
)

# fits <python>: of a version that LocalStack 4.14.0 runs on, and able to make virtual environments with pip
fits() {
    "$1" -c 'import ensurepip, ssl, sqlite3, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

unpack_python() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        echo "localstack.sh: needs Python 3.10 to 3.13 with venv, and there is no apt-get to fetch it with" >&2
        exit 1
    }
    echo "no Python 3.10 to 3.13 with venv on this host; unpacking Debian's into $root/python"
    mkdir -p "$root/debs" "$root/python"
    (cd "$root/debs" && { apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }; }) >/dev/null
    for package in "$root"/debs/*.deb; do dpkg -x "$package" "$root/python"; done
    rm -rf "$root/debs"
}

# Libraries of the unpacked Python; empty where the host's own is used.
libraries() { local path; path=$(printf '%s:' "$root"/python/usr/lib/*-linux-gnu "$root"/python/lib/*-linux-gnu); echo "${path%:}"; }

install() {
    if [ -f "$root/installed" ]; then return; fi
    echo "installing LocalStack core 4.14.0 into $root (about 70 s and 250 MB, once)"
    mkdir -p "$root"
    rm -rf "$root/venv"
    if [ "${ENID_PYTHON:-host}" = host ] && fits python3; then
        python3 -m venv "$root/venv"
    else
        unpack_python
        export LD_LIBRARY_PATH
        LD_LIBRARY_PATH=$(libraries)
        # Debian's ensurepip looks for its wheels in the host's /usr/share; pip runs from its wheel as well.
        "$root/python/usr/bin/python3.11" -m venv --without-pip "$root/venv"
        "$python" "$(ls "$root"/python/usr/share/python-wheels/pip-*.whl | head -1)/pip" install --quiet pip
    fi
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
    if [ -d "$root/python" ]; then
        export LD_LIBRARY_PATH
        LD_LIBRARY_PATH=$(libraries)
    fi
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
