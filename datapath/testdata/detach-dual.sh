ip link set dev enicc21c2d7785 group 57005
ip route del 10.0.1.7/32 dev enicc21c2d7785 scope link table 158000
ip route del 10.0.1.7/32 dev enicc21c2d7785 scope link table main
ip neigh del 10.0.1.7 dev enicc21c2d7785
ip rule del priority 512 from all to 10.0.1.7 lookup main
ip rule del priority 1536 from 10.0.1.7
ip -6 route del 2600:1f13:0:1::7/128 dev enicc21c2d7785 table 158000
ip -6 route del 2600:1f13:0:1::7/128 dev enicc21c2d7785 table main
ip neigh del 2600:1f13:0:1::7 dev enicc21c2d7785
ip -6 rule del priority 512 from all to 2600:1f13:0:1::7 lookup main
ip -6 rule del priority 1536 from 2600:1f13:0:1::7
