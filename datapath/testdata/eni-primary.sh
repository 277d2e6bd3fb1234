LINK_02000a000114=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* 02:00:0a:00:01:14 .*/\1/p' | head -n1)
ip link set dev $LINK_02000a000114 mtu 9001 up
sysctl -w net.ipv4.conf.$LINK_02000a000114.rp_filter=2
