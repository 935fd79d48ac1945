"""Addresses to listen on."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only programs on this host can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name may resolve to anything; empty means every address
