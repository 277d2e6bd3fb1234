#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A small virtual machine with the kernel of Debian bookworm (6.1), in which the datapath's tests run against another kernel than
# the host's, and against kinds of links that the host's kernel may lack. What it is made of is unpacked from Debian packages into
# a folder below the build folder: bookworm's kernel of cloud images, whatever the host's release; and of that, whose libraries they
# link, qemu, busybox, dash, kmod and cpio. Nothing is installed into the host. amd64 only. Idempotent. ENID_VM names another folder.
#   vm.sh                 unpacks; prints the folder
#   vm.sh image <tests>   writes <folder>/image.cpio: the guest with this test executable, and the programs that its tests use;
#                         and <folder>/tests: the executable's path and the SHA-256 of what the guest has of it
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
source "$scripts/debian.sh"
build=${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}
out=${ENID_VM:-$build/enid/vm}
packages=(qemu-system-x86 busybox-static dash kmod cpio)
wanted=(usr/bin/qemu-system-x86_64 bin/{busybox,dash,kmod,cpio})

# Folders of modules that go into the guest whole, and modules of others; what they need comes with them. The guest's kernel
# loads them when they are first used, as a node's does.
folders=(net/802 net/8021q net/bridge net/ipv4 net/ipv6 net/llc net/netfilter net/sched)
modules=(dummy ifb ipvlan macvlan tun veth vrf vxlan)

fail() {
    echo "vm: $*" >&2
    exit 1
}

missing() { # missing <folder>: the programs that are not in it, in one line
    local program
    for program in "${wanted[@]}"; do
        [ -x "$1/$program" ] || printf '%s ' "$program"
    done
    ls "$1"/boot/vmlinuz-* >/dev/null 2>&1 || printf 'boot/vmlinuz-* '
}

# fetch <folder>: the packages with all that the host lacks of what they need. As root apt would switch to a user that cannot
# write here.
fetch() {
    apt-get install -qq --yes --download-only --no-install-recommends --reinstall -o APT::Sandbox::User=root \
        -o Dir::Cache::Archives="$1" "${packages[@]}"
}

# fetch_kernel <folder for apt> <folder>: the image alone, its package would want tools that write boot records
fetch_kernel() (
    debian_of bookworm "$1" || exit 1
    export APT_CONFIG=$1/apt.conf
    apt-get update -qq || exit 1
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    [ -n "$kernel" ] || { echo "bookworm has no linux-image-cloud-amd64"; exit 1; }
    cd "$2" && apt-get download -qq "$kernel"
)

unpack() { # unpack <folder>: into a new folder
    local work=$1 log=$1/apt.log package
    mkdir -p "$work/archives/partial" "$work/root"
    apt_fetch "$log" fetch "$work/archives" || fail "fetching ${packages[*]} failed: $(tail -3 "$log")"
    fetch_kernel "$work/apt" "$work/archives" >>"$log" 2>&1 || fail "fetching bookworm's kernel failed: $(tail -3 "$log")"
    for package in "$work"/archives/*.deb; do
        dpkg -x "$package" "$work/root"
    done
    # Later releases have all programs below /usr.
    mkdir -p "$work/root"/{bin,sbin}
    for package in busybox dash kmod cpio; do
        [ -e "$work/root/bin/$package" ] || ln -s "../usr/bin/$package" "$work/root/bin/$package"
    done
}

ours() { # ours <program> <argument>…: one of the unpacked programs
    local program=$1
    shift
    LD_LIBRARY_PATH="$out/usr/lib/x86_64-linux-gnu:$out/lib/x86_64-linux-gnu" "$out/$program" "$@"
}

# copy_libraries <root> <program>…: the host's libraries that programs link and the guest has not, to the same paths
copy_libraries() {
    local root=$1 library libraries
    shift
    libraries=$(LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:$out/usr/lib/x86_64-linux-gnu" ldd "$@" |
        awk '/=> \// { print $3 } /^\t\/lib/ { print $1 }' | sort -u)
    for library in $libraries; do
        case $library in "$root"/*) continue ;; esac
        [ -e "$root${library#"$out"}" ] || install -D "$(readlink -f "$library")" "$root${library#"$out"}"
    done
}

# copy_tools <root>: nft, ip, tc and both kinds of iptables, unpacked below the build folder or the host's, to where the host's are
copy_tools() {
    local root=$1 tools program path
    tools=$("$scripts/tools.sh") || fail "no tools"
    if [ -x "$tools/bin/ip" ]; then
        (cd "$tools" && cp -a --parents bin/ip sbin/tc usr/sbin usr/lib lib "$root")
        copy_libraries "$root" "$root"/{bin/ip,sbin/tc,usr/sbin/{nft,xtables-legacy-multi,xtables-nft-multi}}
        return
    fi
    for program in nft ip tc xtables-legacy-multi xtables-nft-multi; do
        path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program") || fail "$program is neither unpacked nor on PATH"
        install -D "$(readlink -f "$path")" "$root/usr/sbin/$program"
        copy_libraries "$root" "$path"
    done
    cp -a --parents /usr/lib/x86_64-linux-gnu/xtables "$root"
}

copy_modules() { # copy_modules <root>: and what a modprobe in the guest needs to find them
    local root=$1 kernel folder name file names
    kernel=$(basename "$out"/lib/modules/*)
    [ -e "$out/lib/modules/$kernel/modules.dep" ] || ours sbin/depmod -b "$out" "$kernel"
    names=("${modules[@]}")
    for folder in "${folders[@]}"; do
        for file in $(find "$out/lib/modules/$kernel/kernel/$folder" -name '*.ko'); do
            name=$(basename "$file")
            names+=("${name%.ko}")
        done
    done
    mkdir -p "$root/lib/modules/$kernel"
    for file in $(for name in "${names[@]}"; do
        ours sbin/modprobe -d "$out" -S "$kernel" --show-depends "$name" | awk '/^insmod/ { print $2 }'
    done | sort -u); do
        install -D -m 644 "$file" "$root/lib/modules/$kernel/${file#*/lib/modules/"$kernel"/}"
    done
    cp "$out/lib/modules/$kernel"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$kernel"
    ours sbin/depmod -b "$root" "$kernel"
}

image() { # image <tests>
    local tests=$1 applet
    [ -x "$tests" ] || fail "no test executable $tests"
    root=$(mktemp -d "$out/guest.XXXXXX")
    new=$root.cpio
    trap 'rm -rf "${root:?}" "$root.tests" "$new"' EXIT
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,run,tmp,var,etc}
    ln -s ../run "$root/var/run"
    cp "$out/bin/busybox" "$root/bin/busybox"
    for applet in $(ours bin/busybox --list); do
        # Its `ip` and `tc` are not those that the tests mean, and its shell would prefer them to any.
        case $applet in ip | tc | sh | busybox) ;; *) ln -s busybox "$root/bin/$applet" ;; esac
    done
    cp "$out/bin/dash" "$root/bin/sh"
    # The kernel asks for modules by this name. Busybox's takes a module that is being loaded by another for loaded.
    rm "$root/bin/modprobe"
    cp "$out/bin/kmod" "$root/bin/kmod"
    ln -s ../bin/kmod "$root/sbin/modprobe"
    copy_modules "$root"
    copy_tools "$root"
    copy_libraries "$root" "$tests" "$root"/bin/{sh,kmod}
    cp "$tests" "$root/tests"
    # nft prints transports by name, as on a node.
    printf '%s\n' 'icmp 1 ICMP' 'tcp 6 TCP' 'udp 17 UDP' 'ipv6-icmp 58 IPv6-ICMP' 'sctp 132 SCTP' >"$root/etc/protocols"
    install -m 755 "$scripts/vm-init.sh" "$root/init"
    (cd "$root" && find . | ours bin/cpio -o -H newc --quiet -R 0:0) >"$new"
    # The host asks this one which tests there are, and sees whether the guest has the same.
    printf '%s\n' "$tests" "$(sha256sum <"$root/tests" | cut -d' ' -f1)" >"$root.tests"
    mv "$new" "$out/image.cpio"
    mv "$root.tests" "$out/tests"
}

[ "$(uname -m)" = x86_64 ] || fail "the virtual machine is amd64's, and this machine is $(uname -m)'s"
if [ -n "$(missing "$out")" ]; then
    [ ! -e "$out" ] || fail "$out is there, but not $(missing "$out")in it; remove it"
    [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail "needs Debian's packages for amd64 (dpkg and apt-get)"
    mkdir -p "$(dirname "$out")"
    echo "vm: unpacking Debian's ${packages[*]} and linux-image-cloud-amd64 into $out" >&2
    work=$(mktemp -d "$(cd "$(dirname "$out")" && pwd)/vm.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    unpack "$work"
    # The package's links name the host's.
    for program in modprobe depmod; do ln -sf ../bin/kmod "$work/root/sbin/$program"; done
    [ -z "$(missing "$work/root")" ] || fail "Debian's packages do not have $(missing "$work/root")"
    mv "$work/root" "$out"
    rm -rf "$work"
fi
out=$(cd "$out" && pwd)
if [ "${1:-}" = image ]; then
    image "$2"
fi
echo "$out"
