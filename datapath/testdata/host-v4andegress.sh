sysctl -w net.ipv6.conf.ens5.accept_ra=2
sysctl -w net.ipv6.conf.all.forwarding=1
sysctl -w net.ipv6.conf.default.forwarding=0
ip -6 rule add priority 512 from all lookup 158000 protocol 158
nft -f - <<'EOF'
table ip6 enid
delete table ip6 enid
table ip6 enid {
	set egress_addresses {
		type ipv6_addr
		flags interval
		elements = { fd00::ac:0/118 }
	}
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
	chain egress_only {
		type filter hook forward priority 0; policy accept;
		ip6 daddr @egress_addresses ct state new counter reject with icmpv6 type admin-prohibited comment "nobody reaches a pod by its egress address #0cafc8a2"
	}
	chain egress {
		type nat hook postrouting priority 109; policy accept;
		ip6 saddr @egress_addresses counter masquerade fully-random comment "egress has the node's address #be3495ec"
	}
	chain egress_untranslated {
		type filter hook postrouting priority 150; policy accept;
		ip6 saddr @egress_addresses counter drop comment "nothing leaves with an egress address #11674e81"
		oifname "eni*" accept comment "to pods #4bfa23fe"
		ip6 daddr @egress_addresses counter drop comment "nothing leaves to an egress address #8b932187"
	}
}
EOF
