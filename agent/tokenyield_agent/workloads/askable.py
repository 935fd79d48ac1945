"""Which addresses of a tenant's server may be asked.

In: an address at which a process says that it listens. Out: whether it is one that only leads to that process's own
host or network namespace. A tenant can bind any address (IP_FREEBIND), and give its own namespace any address: that of
the cloud's metadata service, of another pod, of the host. None of these is asked.
"""

import ipaddress
import socket
from collections.abc import Callable

_NEVER = {
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # metadata of Alibaba Cloud; the others' are link-local
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle Cloud, before it moved to a link-local one
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
}
_DISCARD_PORT = 9


def may_be_asked(host: str, *, is_elsewhere: bool, is_own: Callable[[str], bool] | None = None) -> bool:
    """Whether `host`, where a process listens, may be asked. `is_elsewhere`: it runs in another network namespace than
    the agent. `is_own`: whether an address is one of the agent's own namespace, `is_own_address` but for tests."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address in _NEVER or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback:
        return not is_elsewhere
    # In another namespace an address of the agent's own leads back to its own host, to whoever listens there.
    return (is_own or is_own_address)(host) != is_elsewhere


def is_own_address(host: str) -> bool:
    """Whether it is an address of this network namespace: what is sent to such a one is sent from it. Nothing is
    sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, _DISCARD_PORT))
            return str(probe.getsockname()[0]) == host
    except OSError:
        return False
