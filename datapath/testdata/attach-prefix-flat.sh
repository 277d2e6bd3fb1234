ip link add enicc21c2d7785 address 56:0b:3f:b6:5a:ff mtu 9001 numtxqueues 1 numrxqueues 1 group 2781 type veth peer name eth0 address c2:68:c0:62:87:71 mtu 9001 numtxqueues 1 numrxqueues 1 netns $POD
sysctl -w net.ipv6.conf.enicc21c2d7785.accept_ra=0
sysctl -w net.ipv6.conf.enicc21c2d7785.accept_redirects=1
sysctl -w net.ipv6.conf.enicc21c2d7785.forwarding=0
ip -n $POD link set dev eth0 up
ip -n $POD addr add 10.0.1.7/32 dev eth0
ip -n $POD neigh replace 169.254.1.1 lladdr 56:0b:3f:b6:5a:ff dev eth0 nud permanent protocol 158
ip -n $POD route add 169.254.1.1/32 dev eth0 scope link table main proto 158
ip -n $POD route add default via 169.254.1.1 dev eth0 table main proto 158
ip link set dev enicc21c2d7785 group 0 alias 'enid aws-cni/0a1b2c3d/eth0 10.0.1.7' addrgenmode none
ip link set dev enicc21c2d7785 up
ip route add 10.0.1.7/32 dev enicc21c2d7785 scope link table 158000 proto 158
ip neigh replace 10.0.1.7 lladdr c2:68:c0:62:87:71 dev enicc21c2d7785 nud permanent protocol 158
ip -6 route del local ff00::/8 dev enicc21c2d7785 table 255
ip rule del priority 1536 from 10.0.1.7
ip rule del priority 512 from all to 10.0.1.7 lookup main
ip -n $POD link set dev lo up
