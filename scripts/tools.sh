#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sees to it that the harness has `ip`, `nft`, `strace`, `valgrind`, both kinds of iptables and `conntrack`. The emulated VPC is built with
# the first two and tests read the kernel back with them; strace cuts programs off between system calls; valgrind counts instructions; iptables makes the
# rules of others (kube-proxy, the reference) beside which ours must work; kube-proxy runs it itself, and conntrack. ipamd and
# aws-cni need none. What the host lacks is unpacked from Debian packages into a folder under the build folder; nothing is
# installed into the host. Prints the folder. Idempotent.
#   tools.sh peers    in their place, Debian's CNI plugins (usr/lib/cni), beside which `make bench` measures ours
set -euo pipefail
source "$(dirname "$0")/debian.sh"

tools=${ENID_TOOLS:-${CARGO_TARGET_DIR:-target}/enid/tools}
PATH=$PATH:/usr/sbin:/sbin
# The programs, and the libraries they link that a slim Debian 12 may lack.
packages=(
    nftables libnftables1 libnftnl11 libmnl0 libjansson4 libedit2 libxtables12 libbsd0 libmd0 libgmp10 libtinfo6
    iproute2 libbpf1 libelf1 libcap2 zlib1g
    strace libunwind8 liblzma5
    iptables libip4tc2 libip6tc2 conntrack libnetfilter-conntrack3 libnfnetlink0
    valgrind
)

fail() {
    echo "tools: $*" >&2
    echo "tools: install nftables, iproute2, iptables, conntrack, strace and valgrind by hand, or set ENID_TOOLS to a folder with usr/sbin/{nft,conntrack,xtables-legacy-multi,xtables-nft-multi}, bin/ip and usr/bin/{strace,valgrind.bin}" >&2
    exit 1
}

works() { # works <prefix>: all programs there and able to start
    if [ -n "$1" ]; then
        local libraries=("$1"/usr/lib/*-linux-gnu "$1"/lib/*-linux-gnu)
        local path
        path=$(IFS=:; echo "${libraries[*]}")
        LD_LIBRARY_PATH=$path "$1/usr/sbin/nft" --version >/dev/null 2>&1 &&
            LD_LIBRARY_PATH=$path "$1/bin/ip" -V >/dev/null 2>&1 &&
            LD_LIBRARY_PATH=$path "$1/usr/sbin/xtables-legacy-multi" iptables --version >/dev/null 2>&1 &&
            LD_LIBRARY_PATH=$path "$1/usr/sbin/xtables-nft-multi" iptables --version >/dev/null 2>&1 &&
            LD_LIBRARY_PATH=$path "$1/usr/sbin/conntrack" --version >/dev/null 2>&1 &&
            LD_LIBRARY_PATH=$path "$1/usr/bin/strace" -V >/dev/null 2>&1 &&
            VALGRIND_LIB=$1/usr/libexec/valgrind "$1/usr/bin/valgrind.bin" --version >/dev/null 2>&1
    else
        nft --version >/dev/null 2>&1 && ip -V >/dev/null 2>&1 && strace -V >/dev/null 2>&1 && conntrack --version >/dev/null 2>&1 &&
            valgrind --version >/dev/null 2>&1 && xtables-legacy-multi iptables --version >/dev/null 2>&1 && xtables-nft-multi iptables --version >/dev/null 2>&1
    fi
}

unpack() { # unpack: the packages into the folder, which becomes absolute
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "no apt-get to fetch ${packages[*]} with"
    mkdir -p "$tools/packages"
    tools=$(cd "$tools" && pwd)
    cd "$tools/packages"
    : >"$tools/apt.log"
    # As root apt would switch to a user that cannot write here.
    apt_fetch "$tools/apt.log" apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}" || fail "apt-get failed: $(tail -3 "$tools/apt.log")"
    for package in *.deb; do dpkg -x "$package" "$tools"; done
    cd / && rm -rf "$tools/packages"
}

if [ "${1:-}" = peers ]; then
    packages=(containernetworking-plugins)
    [ -x "$tools/usr/lib/cni/ptp" ] || unpack
    cd "$tools" && pwd
    exit 0
fi
if works "" || works "$tools"; then
    echo "$tools"
    exit 0
fi

echo "tools: the host lacks nft, ip, iptables, conntrack, strace or valgrind; unpacking Debian's into $tools" >&2
unpack
works "$tools" || fail "the unpacked programs do not start; see $tools"
echo "$tools"
