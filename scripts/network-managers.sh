#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The programs of distributions that configure networks too, beside which ours must work: systemd-networkd, NetworkManager and
# systemd-udevd, with the bus that they talk over. What of them the host lacks is unpacked from Debian packages into a folder
# below the build folder, which tests lay over /usr and /etc in mount namespaces of their own; nothing is installed into the
# host, and nothing is started. Prints the folder. Idempotent. ENID_NETWORK_MANAGERS names another folder for it.
set -euo pipefail
source "$(dirname "$0")/debian.sh"

out=${ENID_NETWORK_MANAGERS:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/network-managers}
packages=(dbus systemd udev network-manager)
programs=(
    usr/bin/dbus-daemon usr/lib/systemd/systemd-networkd usr/bin/networkctl usr/bin/udevadm usr/sbin/NetworkManager usr/bin/nmcli
)

fail() {
    echo "network-managers: $*" >&2
    echo "network-managers: install ${packages[*]} by hand, or name a folder with them in ENID_NETWORK_MANAGERS" >&2
    exit 1
}

missing() { # missing <folder>: the programs that are neither in the folder nor the host's, in one line
    local program
    for program in "${programs[@]}"; do
        [ -x "$1/$program" ] || [ -x "/$program" ] || printf '/%s ' "$program"
    done
}

# download <folder>: what apt would install for the packages, with all that they need and the host lacks. As root apt would
# switch to a user that cannot write here.
download() {
    apt-get install -qq --yes --download-only --no-install-recommends -o APT::Sandbox::User=root \
        -o Dir::Cache::Archives="$1" "${packages[@]}"
}

unpack() { # unpack <folder>: into a new folder
    local work=$1 log=$1/apt.log package folder
    mkdir -p "$work/archives/partial" "$work/root"/usr/{bin,lib,sbin} "$work/root/etc"
    apt_fetch "$log" download "$work/archives" || fail "apt-get failed: $(tail -3 "$log")"
    for package in "$work"/archives/*.deb; do
        dpkg -x "$package" "$work/root"
    done
    # Debian's packages still say /lib for what is /usr/lib.
    for folder in bin lib sbin; do
        [ -d "$work/root/$folder" ] || continue
        cp -a "$work/root/$folder/." "$work/root/usr/$folder/"
        rm -r "${work:?}/root/$folder"
    done
}

if [ -n "$(missing "$out")" ]; then
    [ ! -e "$out" ] || fail "$out is there, but not $(missing "$out")"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch $(missing "$out")with"
    mkdir -p "$(dirname "$out")"
    echo "network-managers: unpacking Debian's ${packages[*]} into $out" >&2
    work=$(mktemp -d "$(cd "$(dirname "$out")" && pwd)/network-managers.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    unpack "$work"
    [ -z "$(missing "$work/root")" ] || fail "Debian's packages do not have $(missing "$work/root")"
    mv "$work/root" "$out"
fi
# Where the host has them all, what is laid over it is empty.
mkdir -p "$out"/{usr,etc}
cd "$out" && pwd
