sysctl -w net.ipv6.conf.ens5.accept_ra=2
sysctl -w net.ipv6.conf.all.forwarding=1
sysctl -w net.ipv6.conf.default.forwarding=0
ip -6 rule add priority 512 from all lookup 158000 protocol 158
ip -6 rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
nft -f - <<'EOF'
table ip enid
delete table ip enid
table ip enid {
	set egress_addresses {
		type ipv4_addr
		flags interval
		elements = { 169.254.172.0/22 }
	}
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
	chain eni_answers {
		ct direction original accept comment "requests go their own way #628aa8bb"
		ct mark & 0x0000007f == 0x00000018 meta mark set meta mark & 0xffffff80 ^ 0x00000018 accept comment "answers leave by the ENI that was asked #deac1044"
		ct mark & 0x0000007f == 0x00000019 meta mark set meta mark & 0xffffff80 ^ 0x00000019 accept comment "answers leave by the ENI that was asked #31517b45"
		ct mark & 0x0000007f == 0x0000001a meta mark set meta mark & 0xffffff80 ^ 0x0000001a accept comment "answers leave by the ENI that was asked #84ae1670"
		ct mark & 0x0000007f == 0x0000001b meta mark set meta mark & 0xffffff80 ^ 0x0000001b accept comment "answers leave by the ENI that was asked #c517ffd2"
		ct mark & 0x0000007f == 0x0000001c meta mark set meta mark & 0xffffff80 ^ 0x0000001c accept comment "answers leave by the ENI that was asked #f77b1f51"
		ct mark & 0x0000007f == 0x0000001d meta mark set meta mark & 0xffffff80 ^ 0x0000001d accept comment "answers leave by the ENI that was asked #e528e064"
		ct mark & 0x0000007f == 0x0000001e meta mark set meta mark & 0xffffff80 ^ 0x0000001e accept comment "answers leave by the ENI that was asked #28046983"
		ct mark & 0x0000007f == 0x0000001f meta mark set meta mark & 0xffffff80 ^ 0x0000001f accept comment "answers leave by the ENI that was asked #ee1880b5"
		ct mark & 0x0000007f == 0x00000020 meta mark set meta mark & 0xffffff80 ^ 0x00000020 accept comment "answers leave by the ENI that was asked #3d7ad5a6"
		ct mark & 0x0000007f == 0x00000021 meta mark set meta mark & 0xffffff80 ^ 0x00000021 accept comment "answers leave by the ENI that was asked #cdef4b48"
		ct mark & 0x0000007f == 0x00000022 meta mark set meta mark & 0xffffff80 ^ 0x00000022 accept comment "answers leave by the ENI that was asked #fe498b34"
		ct mark & 0x0000007f == 0x00000023 meta mark set meta mark & 0xffffff80 ^ 0x00000023 accept comment "answers leave by the ENI that was asked #573d77c7"
		ct mark & 0x0000007f == 0x00000024 meta mark set meta mark & 0xffffff80 ^ 0x00000024 accept comment "answers leave by the ENI that was asked #2917a43a"
		ct mark & 0x0000007f == 0x00000025 meta mark set meta mark & 0xffffff80 ^ 0x00000025 accept comment "answers leave by the ENI that was asked #5c931f23"
		ct mark & 0x0000007f == 0x00000026 meta mark set meta mark & 0xffffff80 ^ 0x00000026 accept comment "answers leave by the ENI that was asked #22fb8bf5"
		ct mark & 0x0000007f == 0x00000027 meta mark set meta mark & 0xffffff80 ^ 0x00000027 accept comment "answers leave by the ENI that was asked #cd7d3a7c"
		ct mark & 0x0000007f == 0x00000028 meta mark set meta mark & 0xffffff80 ^ 0x00000028 accept comment "answers leave by the ENI that was asked #cca79c4e"
		ct mark & 0x0000007f == 0x00000029 meta mark set meta mark & 0xffffff80 ^ 0x00000029 accept comment "answers leave by the ENI that was asked #17a02330"
		ct mark & 0x0000007f == 0x0000002a meta mark set meta mark & 0xffffff80 ^ 0x0000002a accept comment "answers leave by the ENI that was asked #45b44322"
		ct mark & 0x0000007f == 0x0000002b meta mark set meta mark & 0xffffff80 ^ 0x0000002b accept comment "answers leave by the ENI that was asked #e5ffa167"
		ct mark & 0x0000007f == 0x0000002c meta mark set meta mark & 0xffffff80 ^ 0x0000002c accept comment "answers leave by the ENI that was asked #9db81739"
		ct mark & 0x0000007f == 0x0000002d meta mark set meta mark & 0xffffff80 ^ 0x0000002d accept comment "answers leave by the ENI that was asked #f6de2669"
		ct mark & 0x0000007f == 0x0000002e meta mark set meta mark & 0xffffff80 ^ 0x0000002e accept comment "answers leave by the ENI that was asked #9dd03cbf"
	}
	chain arrivals {
		iifname "eni*" accept comment "pods are answered by their links #68a0161d"
		iiftype ether ether daddr 02:00:0a:00:00:0a fib daddr type local ct mark set ct mark & 0xffffff7f ^ 0x00000080 accept comment "connections to the node's address are answered from it #2defa905"
		iifgroup 0 accept comment "no secondary ENI #f3bb7b5d"
		iifgroup 58001 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000018 accept comment "connections to the node's address are answered from it #6472bacd"
		iifgroup 58002 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000019 accept comment "connections to the node's address are answered from it #d8c0fe60"
		iifgroup 58003 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001a accept comment "connections to the node's address are answered from it #23ee9e7c"
		iifgroup 58004 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001b accept comment "connections to the node's address are answered from it #aab2c5ff"
		iifgroup 58005 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001c accept comment "connections to the node's address are answered from it #77ef7157"
		iifgroup 58006 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001d accept comment "connections to the node's address are answered from it #8222d8e3"
		iifgroup 58007 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001e accept comment "connections to the node's address are answered from it #01623c8c"
		iifgroup 58008 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001f accept comment "connections to the node's address are answered from it #d2cd6f8e"
		iifgroup 58009 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000020 accept comment "connections to the node's address are answered from it #bb6b1235"
		iifgroup 58010 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000021 accept comment "connections to the node's address are answered from it #0192bcc9"
		iifgroup 58011 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000022 accept comment "connections to the node's address are answered from it #27dcdc46"
		iifgroup 58012 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000023 accept comment "connections to the node's address are answered from it #0b845888"
		iifgroup 58013 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000024 accept comment "connections to the node's address are answered from it #7aec316f"
		iifgroup 58014 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000025 accept comment "connections to the node's address are answered from it #4dda5235"
		iifgroup 58015 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000026 accept comment "connections to the node's address are answered from it #ee8d2ebf"
		iifgroup 58016 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000027 accept comment "connections to the node's address are answered from it #e0539a78"
		iifgroup 58017 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000028 accept comment "connections to the node's address are answered from it #6bdb49b2"
		iifgroup 58018 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000029 accept comment "connections to the node's address are answered from it #b6141dc7"
		iifgroup 58019 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002a accept comment "connections to the node's address are answered from it #ccde03de"
		iifgroup 58020 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002b accept comment "connections to the node's address are answered from it #62cb756c"
		iifgroup 58021 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002c accept comment "connections to the node's address are answered from it #49225b94"
		iifgroup 58022 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002d accept comment "connections to the node's address are answered from it #f8867696"
		iifgroup 58023 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002e accept comment "connections to the node's address are answered from it #be1d2f6c"
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain connection_marks {
		type filter hook prerouting priority -150; policy accept;
		iifname "eni*" ct mark & 0x00000080 == 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "marked connections stay on the primary ENI #3a85eec0"
		ct mark & 0x0000007f != 0x00000000 goto eni_answers comment "answers leave by the ENI that was asked #c8a990e8"
		ct state new goto arrivals comment "by which ENI connections come in #fe509ccc"
	}
	chain own_answers {
		type route hook output priority -150; policy accept;
		ct mark & 0x0000007f != 0x00000000 goto eni_answers comment "answers leave by the ENI that was asked #c8a990e8"
	}
	chain mark_outbound {
		type filter hook prerouting priority -90; policy accept;
		iifname "eni*" ct state new ip daddr != @not_translated ip daddr @translated fib daddr type != local counter ct mark set ct mark & 0xffffff7f ^ 0x00000080 meta mark set meta mark & 0xffffff7f ^ 0x00000080 comment "what pods send out of the VPC leaves by the primary ENI #4c92de56"
	}
	chain source_address {
		type nat hook postrouting priority 110; policy accept;
		ct mark & 0x00000080 == 0x00000080 ip daddr != @not_translated ip daddr @translated counter snat to 10.0.0.10 fully-random comment "and has the node's address #dd9f0bfb"
	}
	chain egress_only {
		type filter hook forward priority 0; policy accept;
		ip daddr @egress_addresses ct state new counter reject with icmp type admin-prohibited comment "nobody reaches a pod by its egress address #9b23adec"
	}
	chain egress {
		type nat hook postrouting priority 109; policy accept;
		ip saddr @egress_addresses counter snat to 10.0.0.10 fully-random comment "egress has the node's address #23c8fd0f"
	}
	chain egress_untranslated {
		type filter hook postrouting priority 150; policy accept;
		ip saddr @egress_addresses counter drop comment "nothing leaves with an egress address #16795b04"
		oifname "eni*" accept comment "to pods #4bfa23fe"
		ip daddr @egress_addresses counter drop comment "nothing leaves to an egress address #5e04d697"
	}
}
EOF
nft -f - <<'EOF'
table ip6 enid
delete table ip6 enid
table ip6 enid {
	chain eni_answers {
		ct direction original accept comment "requests go their own way #628aa8bb"
		ct mark & 0x0000007f == 0x00000018 meta mark set meta mark & 0xffffff80 ^ 0x00000018 accept comment "answers leave by the ENI that was asked #deac1044"
		ct mark & 0x0000007f == 0x00000019 meta mark set meta mark & 0xffffff80 ^ 0x00000019 accept comment "answers leave by the ENI that was asked #31517b45"
		ct mark & 0x0000007f == 0x0000001a meta mark set meta mark & 0xffffff80 ^ 0x0000001a accept comment "answers leave by the ENI that was asked #84ae1670"
		ct mark & 0x0000007f == 0x0000001b meta mark set meta mark & 0xffffff80 ^ 0x0000001b accept comment "answers leave by the ENI that was asked #c517ffd2"
		ct mark & 0x0000007f == 0x0000001c meta mark set meta mark & 0xffffff80 ^ 0x0000001c accept comment "answers leave by the ENI that was asked #f77b1f51"
		ct mark & 0x0000007f == 0x0000001d meta mark set meta mark & 0xffffff80 ^ 0x0000001d accept comment "answers leave by the ENI that was asked #e528e064"
		ct mark & 0x0000007f == 0x0000001e meta mark set meta mark & 0xffffff80 ^ 0x0000001e accept comment "answers leave by the ENI that was asked #28046983"
		ct mark & 0x0000007f == 0x0000001f meta mark set meta mark & 0xffffff80 ^ 0x0000001f accept comment "answers leave by the ENI that was asked #ee1880b5"
		ct mark & 0x0000007f == 0x00000020 meta mark set meta mark & 0xffffff80 ^ 0x00000020 accept comment "answers leave by the ENI that was asked #3d7ad5a6"
		ct mark & 0x0000007f == 0x00000021 meta mark set meta mark & 0xffffff80 ^ 0x00000021 accept comment "answers leave by the ENI that was asked #cdef4b48"
		ct mark & 0x0000007f == 0x00000022 meta mark set meta mark & 0xffffff80 ^ 0x00000022 accept comment "answers leave by the ENI that was asked #fe498b34"
		ct mark & 0x0000007f == 0x00000023 meta mark set meta mark & 0xffffff80 ^ 0x00000023 accept comment "answers leave by the ENI that was asked #573d77c7"
		ct mark & 0x0000007f == 0x00000024 meta mark set meta mark & 0xffffff80 ^ 0x00000024 accept comment "answers leave by the ENI that was asked #2917a43a"
		ct mark & 0x0000007f == 0x00000025 meta mark set meta mark & 0xffffff80 ^ 0x00000025 accept comment "answers leave by the ENI that was asked #5c931f23"
		ct mark & 0x0000007f == 0x00000026 meta mark set meta mark & 0xffffff80 ^ 0x00000026 accept comment "answers leave by the ENI that was asked #22fb8bf5"
		ct mark & 0x0000007f == 0x00000027 meta mark set meta mark & 0xffffff80 ^ 0x00000027 accept comment "answers leave by the ENI that was asked #cd7d3a7c"
		ct mark & 0x0000007f == 0x00000028 meta mark set meta mark & 0xffffff80 ^ 0x00000028 accept comment "answers leave by the ENI that was asked #cca79c4e"
		ct mark & 0x0000007f == 0x00000029 meta mark set meta mark & 0xffffff80 ^ 0x00000029 accept comment "answers leave by the ENI that was asked #17a02330"
		ct mark & 0x0000007f == 0x0000002a meta mark set meta mark & 0xffffff80 ^ 0x0000002a accept comment "answers leave by the ENI that was asked #45b44322"
		ct mark & 0x0000007f == 0x0000002b meta mark set meta mark & 0xffffff80 ^ 0x0000002b accept comment "answers leave by the ENI that was asked #e5ffa167"
		ct mark & 0x0000007f == 0x0000002c meta mark set meta mark & 0xffffff80 ^ 0x0000002c accept comment "answers leave by the ENI that was asked #9db81739"
		ct mark & 0x0000007f == 0x0000002d meta mark set meta mark & 0xffffff80 ^ 0x0000002d accept comment "answers leave by the ENI that was asked #f6de2669"
		ct mark & 0x0000007f == 0x0000002e meta mark set meta mark & 0xffffff80 ^ 0x0000002e accept comment "answers leave by the ENI that was asked #9dd03cbf"
	}
	chain arrivals {
		iifname "eni*" accept comment "pods are answered by their links #68a0161d"
		iiftype ether ether daddr 02:00:0a:00:00:0a fib daddr type local ct mark set ct mark & 0xffffff7f ^ 0x00000080 accept comment "connections to the node's address are answered from it #2defa905"
		iifgroup 0 accept comment "no secondary ENI #f3bb7b5d"
		iifgroup 58001 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000018 accept comment "connections to the node's address are answered from it #6472bacd"
		iifgroup 58002 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000019 accept comment "connections to the node's address are answered from it #d8c0fe60"
		iifgroup 58003 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001a accept comment "connections to the node's address are answered from it #23ee9e7c"
		iifgroup 58004 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001b accept comment "connections to the node's address are answered from it #aab2c5ff"
		iifgroup 58005 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001c accept comment "connections to the node's address are answered from it #77ef7157"
		iifgroup 58006 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001d accept comment "connections to the node's address are answered from it #8222d8e3"
		iifgroup 58007 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001e accept comment "connections to the node's address are answered from it #01623c8c"
		iifgroup 58008 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000001f accept comment "connections to the node's address are answered from it #d2cd6f8e"
		iifgroup 58009 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000020 accept comment "connections to the node's address are answered from it #bb6b1235"
		iifgroup 58010 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000021 accept comment "connections to the node's address are answered from it #0192bcc9"
		iifgroup 58011 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000022 accept comment "connections to the node's address are answered from it #27dcdc46"
		iifgroup 58012 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000023 accept comment "connections to the node's address are answered from it #0b845888"
		iifgroup 58013 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000024 accept comment "connections to the node's address are answered from it #7aec316f"
		iifgroup 58014 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000025 accept comment "connections to the node's address are answered from it #4dda5235"
		iifgroup 58015 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000026 accept comment "connections to the node's address are answered from it #ee8d2ebf"
		iifgroup 58016 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000027 accept comment "connections to the node's address are answered from it #e0539a78"
		iifgroup 58017 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000028 accept comment "connections to the node's address are answered from it #6bdb49b2"
		iifgroup 58018 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x00000029 accept comment "connections to the node's address are answered from it #b6141dc7"
		iifgroup 58019 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002a accept comment "connections to the node's address are answered from it #ccde03de"
		iifgroup 58020 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002b accept comment "connections to the node's address are answered from it #62cb756c"
		iifgroup 58021 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002c accept comment "connections to the node's address are answered from it #49225b94"
		iifgroup 58022 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002d accept comment "connections to the node's address are answered from it #f8867696"
		iifgroup 58023 fib daddr type local ct mark set ct mark & 0xffffff80 ^ 0x0000002e accept comment "connections to the node's address are answered from it #be1d2f6c"
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain eni_marks {
		type filter hook prerouting priority -155; policy accept;
		iifgroup & 0x00020000 == 0x00000000 accept comment "no pod of a secondary ENI #d07506d0"
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
		ct mark & 0x0000007f != 0x00000000 goto eni_answers comment "answers leave by the ENI that was asked #c8a990e8"
		ct state new goto arrivals comment "by which ENI connections come in #fe509ccc"
	}
	chain own_answers {
		type route hook output priority -150; policy accept;
		ct mark & 0x0000007f != 0x00000000 goto eni_answers comment "answers leave by the ENI that was asked #c8a990e8"
	}
}
EOF
