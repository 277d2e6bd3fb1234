LINK_02000a000114=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* 02:00:0a:00:01:14 .*/\1/p' | head -n1)
ip link set dev $LINK_02000a000114 mtu 9001 up
sysctl -w net.ipv4.conf.$LINK_02000a000114.rp_filter=2
ip addr add 10.0.1.20/24 dev $LINK_02000a000114 noprefixroute
ip route replace 10.0.1.1/32 dev $LINK_02000a000114 scope link table 10100 proto 158
ip route replace default via 10.0.1.1 dev $LINK_02000a000114 table 10100 proto 158
ip rule add priority 32765 from 10.0.1.20 lookup 10100 protocol 158
