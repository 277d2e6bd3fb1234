LINK_02000a00000a=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* 02:00:0a:00:00:0a .*/\1/p' | head -n1)
sysctl -w net.ipv4.ip_forward=1
ip link set dev $LINK_02000a00000a mtu 9001 up
sysctl -w net.ipv4.conf.$LINK_02000a00000a.rp_filter=2
ip rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
nft -f - <<'EOF'
table ip enid
delete table ip enid
table ip enid {
	set vpc_cidrs {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/16, 100.64.0.0/10, 192.168.0.0/16 }
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain restore_mark {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000080 == 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "marked connections stay on the primary ENI #3a85eec0"
	}
	chain mark_outbound {
		type nat hook prerouting priority -90; policy accept;
		iifname "eni*" ip daddr != @vpc_cidrs fib daddr type != local counter ct mark set ct mark & 0xffffff7f ^ 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "pods leave the VPC by the primary ENI #06979ea4"
	}
	chain mark_redirected {
		type filter hook prerouting priority -90; policy accept;
		iifname "eni*" ct state new ct status dnat ip daddr != @vpc_cidrs fib daddr type != local counter ct mark set ct mark & 0xffffff7f ^ 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "and so do connections that a Service sends out #1632d9f7"
	}
	chain source_address {
		type nat hook postrouting priority 100; policy accept;
		oifname != "lo" oifname != "vlan*" ip daddr != @vpc_cidrs fib daddr type != local counter snat to 10.0.0.10 fully-random comment "what leaves the VPC has the node's address #02983dc7"
	}
}
EOF
