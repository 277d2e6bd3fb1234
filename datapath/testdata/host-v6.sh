sysctl -w net.ipv6.conf.ens5.accept_ra=2
sysctl -w net.ipv6.conf.all.forwarding=1
sysctl -w net.ipv6.conf.default.forwarding=0
ip -6 rule add priority 512 from all lookup 158000 protocol 158
ip -6 rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
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
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain connection_marks {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000080 == 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "marked connections stay on the primary ENI #3a85eec0"
		iiftype ether ether daddr 02:00:0a:00:00:0a ct state new fib daddr type local ct mark set ct mark & 0xffffff7f ^ 0x00000080 comment "connections to the node's address are answered from it #ea5d2a06"
	}
	chain mark_outbound {
		type filter hook prerouting priority -90; policy accept;
		iifname "eni*" ct state new ip daddr != @not_translated ip daddr @translated fib daddr type != local counter ct mark set ct mark & 0xffffff7f ^ 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "what pods send out of the VPC leaves by the primary ENI #4c92de56"
	}
	chain source_address {
		type nat hook postrouting priority 110; policy accept;
		ct mark & 0x00000080 == 0x00000080 ip daddr != @not_translated ip daddr @translated counter snat to 10.0.0.10 fully-random comment "and has the node's address #dd9f0bfb"
	}
}
EOF
nft -f - <<'EOF'
table ip6 enid
delete table ip6 enid
table ip6 enid {
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain eni_marks {
		type filter hook prerouting priority -145; policy accept;
		iifgroup 0 accept comment "no pod of a secondary ENI #f3bb7b5d"
		iifgroup 158001 meta mark set meta mark & 0xffffff80 ^ 0x00000001 accept comment "pods leave by their ENI #9c2afb8b"
		iifgroup 158002 meta mark set meta mark & 0xffffff80 ^ 0x00000002 accept comment "pods leave by their ENI #c6ddb540"
		iifgroup 158003 meta mark set meta mark & 0xffffff80 ^ 0x00000003 accept comment "pods leave by their ENI #10a5b296"
		iifgroup 158004 meta mark set meta mark & 0xffffff80 ^ 0x00000004 accept comment "pods leave by their ENI #3bd13c96"
		iifgroup 158005 meta mark set meta mark & 0xffffff80 ^ 0x00000005 accept comment "pods leave by their ENI #831559b2"
		iifgroup 158006 meta mark set meta mark & 0xffffff80 ^ 0x00000006 accept comment "pods leave by their ENI #522ec3fc"
		iifgroup 158007 meta mark set meta mark & 0xffffff80 ^ 0x00000007 accept comment "pods leave by their ENI #5aa49a15"
		iifgroup 158008 meta mark set meta mark & 0xffffff80 ^ 0x00000008 accept comment "pods leave by their ENI #68a05007"
		iifgroup 158009 meta mark set meta mark & 0xffffff80 ^ 0x00000009 accept comment "pods leave by their ENI #59c05bec"
		iifgroup 158010 meta mark set meta mark & 0xffffff80 ^ 0x0000000a accept comment "pods leave by their ENI #a5e987d4"
		iifgroup 158011 meta mark set meta mark & 0xffffff80 ^ 0x0000000b accept comment "pods leave by their ENI #20cfa1c2"
		iifgroup 158012 meta mark set meta mark & 0xffffff80 ^ 0x0000000c accept comment "pods leave by their ENI #15ff1ac3"
		iifgroup 158013 meta mark set meta mark & 0xffffff80 ^ 0x0000000d accept comment "pods leave by their ENI #77261161"
		iifgroup 158014 meta mark set meta mark & 0xffffff80 ^ 0x0000000e accept comment "pods leave by their ENI #33e2aaee"
		iifgroup 158015 meta mark set meta mark & 0xffffff80 ^ 0x0000000f accept comment "pods leave by their ENI #26be5b14"
		iifgroup 158016 meta mark set meta mark & 0xffffff80 ^ 0x00000010 accept comment "pods leave by their ENI #84c13db0"
		iifgroup 158017 meta mark set meta mark & 0xffffff80 ^ 0x00000011 accept comment "pods leave by their ENI #ff7c5898"
		iifgroup 158018 meta mark set meta mark & 0xffffff80 ^ 0x00000012 accept comment "pods leave by their ENI #c89bd5f5"
		iifgroup 158019 meta mark set meta mark & 0xffffff80 ^ 0x00000013 accept comment "pods leave by their ENI #66dac60e"
		iifgroup 158020 meta mark set meta mark & 0xffffff80 ^ 0x00000014 accept comment "pods leave by their ENI #12361761"
		iifgroup 158021 meta mark set meta mark & 0xffffff80 ^ 0x00000015 accept comment "pods leave by their ENI #21efdeb1"
		iifgroup 158022 meta mark set meta mark & 0xffffff80 ^ 0x00000016 accept comment "pods leave by their ENI #47db26c2"
		iifgroup 158023 meta mark set meta mark & 0xffffff80 ^ 0x00000017 accept comment "pods leave by their ENI #336f75c1"
	}
	chain connection_marks {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000080 == 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "marked connections stay on the primary ENI #3a85eec0"
		iiftype ether ether daddr 02:00:0a:00:00:0a ct state new fib daddr type local ct mark set ct mark & 0xffffff7f ^ 0x00000080 comment "connections to the node's address are answered from it #ea5d2a06"
	}
}
EOF
