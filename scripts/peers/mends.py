# SPDX-License-Identifier: Apache-2.0
"""Runs inside LocalStack and moto before they serve: mends two faults that would make them useless as peers of an address
manager.

LocalStack's MAC addresses come out malformed (moto 5.2 has that mended itself), and both draw private addresses at random
over the whole block without a look at what is reserved or taken. Nothing else is changed. What was mended, and the versions
of what runs, are written to the file that ENID_PEER names.
"""

import functools
import importlib.metadata
import ipaddress
import json
import os
import random
import re
import threading

import moto.ec2.models.elastic_network_interfaces as interfaces
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends

RESERVED_AT_START = 4  # network, router, DNS, future use; the last address is reserved too

original_pick = interfaces.random_private_ip
in_flight = {}  # thread -> addresses drawn for what it is making: on an interface, or not wanted, when the call ends
drawing = threading.Lock()


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
    with drawing:
        used = taken(cidr).union(*in_flight.values())
        free = [str(host) for host in list(ipaddress.ip_network(cidr))[RESERVED_AT_START:-1] if str(host) not in used]
        if not free:
            raise EC2ClientError(
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
            )
        chosen = random.choice(free)
        in_flight.setdefault(threading.get_ident(), set()).add(chosen)
        return chosen


def in_one_flight(method):
    @functools.wraps(method)
    def wrapped(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        finally:
            in_flight.pop(threading.get_ident(), None)

    return wrapped


for name in ("create_network_interface", "assign_private_ip_addresses"):
    backend = interfaces.NetworkInterfaceBackend
    setattr(backend, name, in_one_flight(getattr(backend, name)))

mends = ["free, unreserved private addresses"]
interfaces.random_private_ip = free_address
if not re.fullmatch("[0-9a-f]{2}(:[0-9a-f]{2}){5}", interfaces.random_mac_address()):
    mends.append("well-formed MAC addresses")
    interfaces.random_mac_address = well_formed_mac


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


versions = {package: version_of(package) for package in ("localstack-core", "moto-ext", "moto")}
path = os.environ["ENID_PEER"]
with open(path + ".tmp", "w", encoding="utf-8") as file:
    json.dump({"versions": {package: found for package, found in versions.items() if found}, "mends": mends}, file)
os.rename(path + ".tmp", path)
