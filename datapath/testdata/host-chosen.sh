LINK_02000a00000a=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* 02:00:0a:00:00:0a .*/\1/p' | head -n1)
sysctl -w net.ipv4.ip_forward=1
ip link set dev $LINK_02000a00000a mtu 9001 up
sysctl -w net.ipv4.conf.$LINK_02000a00000a.rp_filter=2
ip rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
ip rule add priority 1535 from all to 172.20.0.0/16 lookup main protocol 158
nft -f - <<'EOF'
table ip enid
delete table ip enid
table ip enid {
	set not_translated {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/16, 100.64.0.0/10, 192.168.0.0/16 }
	}
	set translated {
		type ipv4_addr
		flags interval
		elements = { 198.51.100.0/24, 203.0.113.0/24 }
	}
	set vpc {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/16, 100.64.0.0/10 }
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain connection_marks {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000080 == 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "marked connections stay on the primary ENI #3a85eec0"
	}
	chain mark_outbound {
		type filter hook prerouting priority -90; policy accept;
		iifname "eni*" ct state new ip daddr != @not_translated ip daddr @translated fib daddr type != local counter ct mark set ct mark & 0xffffff7f ^ 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "what pods send out of the VPC leaves by the primary ENI #4c92de56"
	}
	chain source_address {
		type nat hook postrouting priority 110; policy accept;
		ct mark & 0x00000080 == 0x00000080 ip daddr != @not_translated ip daddr @translated meta l4proto tcp counter snat to 10.0.0.10:10000-19999 random comment "and has the node's address #e00aa9ff"
		ct mark & 0x00000080 == 0x00000080 ip daddr != @not_translated ip daddr @translated meta l4proto udp counter snat to 10.0.0.10:10000-19999 random comment "and has the node's address #dfdf9e9e"
		ct mark & 0x00000080 == 0x00000080 ip daddr != @not_translated ip daddr @translated counter snat to 10.0.0.10 random comment "and has the node's address #90a5db9e"
	}
	chain segment_size {
		type filter hook forward priority -150; policy accept;
		iifname "eni*" tcp flags syn ip daddr != @vpc tcp option maxseg size set 1460 comment "who answers a pod fits the path #c3cf5f2f"
		oifname "eni*" tcp flags syn ip saddr != @vpc tcp option maxseg size set 1460 comment "and so does the pod #74aaaa7b"
	}
}
EOF
sysctl -w net.ipv4.tcp_early_demux=0
