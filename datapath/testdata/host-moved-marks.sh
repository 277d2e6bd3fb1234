ip rule add priority 1536 from all fwmark 0x100/0xf00 lookup 2 protocol 158
ip rule add priority 1536 from all fwmark 0x200/0xf00 lookup 3 protocol 158
ip rule add priority 1536 from all fwmark 0x300/0xf00 lookup 4 protocol 158
ip rule add priority 1024 from all fwmark 0x10/0x10 lookup main protocol 158
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
		elements = { 0.0.0.0/0 }
	}
	chain arrivals {
		iifname "eni*" accept comment "pods are answered by their links #68a0161d"
		iiftype ether ether daddr 02:00:0a:00:00:0a fib daddr type local ct mark set ct mark & 0xffffffef ^ 0x00000010 accept comment "connections to the node's address are answered from it #7d754c14"
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain eni_marks {
		type filter hook prerouting priority -155; policy accept;
		iifgroup & 0x00020000 == 0x00000000 accept comment "no pod of a secondary ENI #d07506d0"
		iifgroup 158001 meta mark set meta mark & 0xfffff0ff ^ 0x00000100 accept comment "pods leave by their ENI #a6631e22"
		iifgroup 158002 meta mark set meta mark & 0xfffff0ff ^ 0x00000200 accept comment "pods leave by their ENI #02c49bb6"
		iifgroup 158003 meta mark set meta mark & 0xfffff0ff ^ 0x00000300 accept comment "pods leave by their ENI #ee0455ad"
		iifgroup 158004 meta mark set meta mark & 0xfffff0ff ^ 0x00000400 accept comment "pods leave by their ENI #6ad2dfa8"
		iifgroup 158005 meta mark set meta mark & 0xfffff0ff ^ 0x00000500 accept comment "pods leave by their ENI #53109fe0"
		iifgroup 158006 meta mark set meta mark & 0xfffff0ff ^ 0x00000600 accept comment "pods leave by their ENI #bd5e1fd4"
		iifgroup 158007 meta mark set meta mark & 0xfffff0ff ^ 0x00000700 accept comment "pods leave by their ENI #f27a3b5d"
		iifgroup 158008 meta mark set meta mark & 0xfffff0ff ^ 0x00000800 accept comment "pods leave by their ENI #21780588"
		iifgroup 158009 meta mark set meta mark & 0xfffff0ff ^ 0x00000900 accept comment "pods leave by their ENI #c88f5733"
		iifgroup 158010 meta mark set meta mark & 0xfffff0ff ^ 0x00000a00 accept comment "pods leave by their ENI #f7d094c8"
		iifgroup 158011 meta mark set meta mark & 0xfffff0ff ^ 0x00000b00 accept comment "pods leave by their ENI #82353764"
		iifgroup 158012 meta mark set meta mark & 0xfffff0ff ^ 0x00000c00 accept comment "pods leave by their ENI #0d0a409b"
		iifgroup 158013 meta mark set meta mark & 0xfffff0ff ^ 0x00000d00 accept comment "pods leave by their ENI #2dc47c86"
		iifgroup 158014 meta mark set meta mark & 0xfffff0ff ^ 0x00000e00 accept comment "pods leave by their ENI #07d32616"
		iifgroup 158015 meta mark set meta mark & 0xfffff0ff ^ 0x00000f00 accept comment "pods leave by their ENI #7bf10f1d"
	}
	chain connection_marks {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000010 == 0x00000010 meta mark set meta mark & 0xffffffef ^ 0x00000010 comment "marked connections stay on the primary ENI #2e46f3af"
		ct state new goto arrivals comment "by which ENI connections come in #fe509ccc"
	}
	chain mark_outbound {
		type filter hook prerouting priority -90; policy accept;
		iifname "eni*" ct state new ip daddr != @not_translated ip daddr @translated fib daddr type != local counter ct mark set ct mark & 0xffffffef ^ 0x00000010 meta mark set meta mark & 0xffffffef ^ 0x00000010 comment "what pods send out of the VPC leaves by the primary ENI #24316770"
	}
	chain source_address {
		type nat hook postrouting priority 110; policy accept;
		ct mark & 0x00000010 == 0x00000010 ip daddr != @not_translated ip daddr @translated counter snat to 10.0.0.10 fully-random comment "and has the node's address #4a2c7ec7"
	}
}
EOF
ip rule del priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
ip rule del priority 1536 from all fwmark 0x1/0x7f lookup 2 protocol 158
ip rule del priority 1536 from all fwmark 0x2/0x7f lookup 3 protocol 158
ip rule del priority 1536 from all fwmark 0x3/0x7f lookup 4 protocol 158
