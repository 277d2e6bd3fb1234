# SPDX-License-Identifier: Apache-2.0
"""Runs inside LocalStack before it serves: mends two faults that would make it useless as a peer of an address manager.

MAC addresses come out malformed, and private addresses are drawn at random over the whole block without a look at what is
reserved or taken. Nothing else is changed.
"""

import ipaddress
import random

import moto.ec2.models.elastic_network_interfaces as interfaces
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends

RESERVED_AT_START = 4  # network, router, DNS, future use; the last address is reserved too

original_pick = interfaces.random_private_ip
handed_out = {}  # block -> addresses drawn but not yet on an interface


def well_formed_mac():
    return "02:" + ":".join(f"{random.randint(0, 255):02x}" for _ in range(5))


def taken(block):
    return {
        address["PrivateIpAddress"]
        for account in ec2_backends.values()
        for backend in account.values()
        for interface in backend.enis.values()
        if interface.subnet.cidr_block == block
        for address in interface.private_ip_addresses
    }


def free_address(cidr=None, ipv6=False):
    if ipv6 or not cidr:
        return original_pick(cidr, ipv6)
    used = taken(cidr)
    pending = handed_out.setdefault(cidr, set())
    pending -= used
    hosts = [str(host) for host in list(ipaddress.ip_network(cidr))[RESERVED_AT_START:-1]]
    free = [host for host in hosts if host not in used and host not in pending]
    if not free:
        pending.clear()
        free = [host for host in hosts if host not in used]
    if not free:
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
        )
    chosen = random.choice(free)
    pending.add(chosen)
    return chosen


interfaces.random_mac_address = well_formed_mac
interfaces.random_private_ip = free_address
