LINK_02000a00000a=$(ip -o link | sed -n 's/^[0-9]*: \([^:@]*\).* 02:00:0a:00:00:0a .*/\1/p' | head -n1)
sysctl -w net.ipv4.ip_forward=1
ip link set dev $LINK_02000a00000a mtu 9001 up
sysctl -w net.ipv4.conf.$LINK_02000a00000a.rp_filter=2
ip rule add priority 1024 from all fwmark 0x80/0x80 lookup main protocol 158
nft -f - <<'EOF'
table ip enid
delete table ip enid
table ip enid {
	chain dead_pods {
		type filter hook prerouting priority -300; policy accept;
		iifgroup 57005 counter drop comment "detached pods are not heard #abbd2764"
	}
}
EOF
