"""Hosts that are this machine itself, however they are written.

For what somebody else names: nobody is trusted by it. Which host a name of the network
leads to is known to its name server alone.

Example:
    >>> is_this_machine("127.1"), is_this_machine("registry.example")
    (True, False)
"""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = re.compile(
    r"(?:.+\.)?localhost|localhost\.localdomain|ip6-localhost|ip6-loopback", re.ASCII
)
# The last label of a name is never a number (RFC 1123 §2.1); of an address it is.
_NUMBER: Final = re.compile(r"(?:.+\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


def is_this_machine(host: str) -> bool:
    """Say whether a host, without port and brackets, is on loopback or unspecified."""
    host = host.lower().rstrip(".")
    if _NAMES.fullmatch(host) is not None:
        return True
    if ":" not in host and _NUMBER.fullmatch(host) is None:
        return False
    # Few hosts are addresses, and this takes long to import.
    from ipaddress import IPv4Address, IPv6Address
    from socket import inet_aton

    try:
        if ":" not in host:
            # As the system reads it: also 127.1, 0x7f000001 and 2130706433.
            address: IPv4Address | IPv6Address = IPv4Address(inet_aton(host))
        else:
            found = IPv6Address(host)
            address = found.ipv4_mapped or found
    except (OSError, ValueError):
        return False
    is_this_network = address.version == 4 and int(address) >> 24 == 0
    return address.is_loopback or address.is_unspecified or is_this_network
