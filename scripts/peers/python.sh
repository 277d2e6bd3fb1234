# SPDX-License-Identifier: Apache-2.0
# Sourced by localstack.sh and moto.sh: a virtual environment of pinned packages below a folder, from PyPI only, also where
# the host's Python cannot make one. Needs $root, that folder; sets $python, the environment's program.
source "$(dirname "${BASH_SOURCE[0]}")/../debian.sh"
python=$root/venv/bin/python

# Debian 12's own Python, unpacked below the root, for a host that has none that fits.
packages=(
    python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib python3-pip-whl
    libexpat1 libsqlite3-0 libreadline8 libffi8 libssl3 zlib1g libbz2-1.0 liblzma5 libuuid1 libncursesw6 libtinfo6 libcrypt1
    libnsl2 libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1
)

# fits <python>: of a version that both peers run on (LocalStack 4.14.0: 3.10 to 3.13; moto 5.2.5: from 3.10), and able to
# make virtual environments with pip
fits() {
    "$1" -c 'import ensurepip, ssl, sqlite3, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

unpack_python() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        echo "$(basename "$0"): needs Python 3.10 to 3.13 with venv, and there is no apt-get to fetch it with" >&2
        exit 1
    }
    echo "no Python 3.10 to 3.13 with venv on this host; unpacking Debian's into $root/python"
    mkdir -p "$root/debs" "$root/python"
    (cd "$root/debs" && apt_fetch "$root/apt.log" apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}") || {
        echo "$(basename "$0"): fetching Debian's Python failed: $(tail -3 "$root/apt.log")" >&2
        exit 1
    }
    for package in "$root"/debs/*.deb; do dpkg -x "$package" "$root/python"; done
    rm -rf "$root/debs" "$root/apt.log"
}

# Libraries of the unpacked Python; empty where the host's own is used.
libraries() { local path; path=$(printf '%s:' "$root"/python/usr/lib/*-linux-gnu "$root"/python/lib/*-linux-gnu); echo "${path%:}"; }

# use_libraries: makes the environment's program start where Debian's Python is behind it
use_libraries() {
    if [ -d "$root/python" ]; then
        export LD_LIBRARY_PATH
        LD_LIBRARY_PATH=$(libraries)
    fi
}

# install_packages <what, for people> <package>...: does nothing where these packages are installed
install_packages() {
    local what=$1 wanted
    shift
    wanted=$(printf '%s\n' "$@")
    if [ -f "$root/installed" ] && [ "$(cat "$root/installed")" = "$wanted" ]; then return; fi
    echo "installing $what into $root (once)"
    mkdir -p "$root"
    rm -rf "$root/venv" "$root/installed"
    if [ "${ENID_PYTHON:-host}" = host ] && fits python3; then
        rm -rf "$root/python"
        python3 -m venv "$root/venv"
    else
        unpack_python
        use_libraries
        # Debian's ensurepip looks for its wheels in the host's /usr/share; pip runs from its wheel as well.
        "$root/python/usr/bin/python3.11" -m venv --without-pip "$root/venv"
        "$python" "$(ls "$root"/python/usr/share/python-wheels/pip-*.whl | head -1)/pip" install --quiet pip
    fi
    "$python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "$wanted" >"$root/installed"
}
