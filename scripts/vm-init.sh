#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the guest that scripts/vm.sh makes: runs each test of /tests in a process of its own, as cargo-nextest
# does, and tells on the serial console how each ended, in lines that begin with `ENID`:
#   ENID kernel <release>
#   ENID began <uptime>
#   ENID passed|failed|starved <seconds> <test>
#   ENID: <a line of what a test that is told next as failed or starved said>
#   ENID done <uptime>
# Three run at a time on a processor that is slow already, and tests have limits of time: one that fails then is told as starved, and
# run again when nothing else runs. That run counts.
# What is read of them, and what must hold: integration/tests/vm. The kernel's command line says which tests are meant and which are
# not, enid.only= and enid.not=<regular expression>, and which part of them this guest has, enid.part=<number>/<guests>.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin RUST_BACKTRACE=0 ENID_IN_VM=1 ENID_FLOWS=20000

uptime() { cut -d' ' -f1 /proc/uptime; }

# one <test> <what it is called when it fails>: a test that ends well without having run is none that passed.
one() {
    said=/tmp/said.$$
    began=$(uptime)
    if timeout -k 5 300 /tests --exact "$1" --include-ignored >"$said" 2>&1 && grep -q '^test result: ok. 1 passed' "$said"; then
        result=passed
        : >"$said"
    else
        result=$2
        [ "$result" = failed ] || echo "$1" >>/run/starved
    fi
    {
        sed 's/^/ENID: /' "$said"
        echo "ENID $result $(echo "$began $(uptime)" | awk '{ printf "%.1f", $2 - $1 }') $1"
    } >"$said.told"
    # Three run at a time; what one says is not torn.
    until mkdir /run/telling 2>/dev/null; do sleep 0.05; done
    cat "$said.told"
    rmdir /run/telling
    rm "$said" "$said.told"
}

if [ "$1" = beside ] || [ "$1" = alone ]; then
    if [ "$1" = alone ]; then one "$2" failed; else one "$2" starved; fi
    exit 0
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/netns
# As systemd has it on nodes.
mount --make-rshared /
ip link set lo up
# A machine of 8 GiB's; the default is by memory.
modprobe nf_conntrack
echo 262144 >/proc/sys/net/netfilter/nf_conntrack_max

not=$(sed -n 's/.*enid.not=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -n "$not" ] || not='^$'
only=$(sed -n 's/.*enid.only=\([^ ]*\).*/\1/p' /proc/cmdline)
part=$(sed -n 's/.*enid.part=\([^ ]*\).*/\1/p' /proc/cmdline)
echo "ENID kernel $(uname -r)"
echo "ENID began $(uptime)"
# They change what is the whole machine's.
alone='^apply::tests::losses::'
/tests --list --include-ignored | sed -n 's/: test$//p' | grep -E '^apply::' | grep -E "${only:-.}" | grep -vE "$not" |
    awk -v part="${part:-0/1}" 'BEGIN { split(part, of, "/") } NR % of[2] == of[1]' >/run/meant
grep -vE "$alone" /run/meant | xargs -r -P 3 -n 1 /init beside
: >>/run/starved
{ grep -E "$alone" /run/meant; cat /run/starved; } | xargs -r -n 1 /init alone
echo "ENID done $(uptime)"
poweroff -f
