"""Which hosts are this machine, however they are written."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from margo_supplychain.transport.this_machine import is_this_machine


@pytest.mark.parametrize(
    "host",
    [str(IPv4Address(0)),
     "localhost", "LOCALHOST", "localhost.", "agent.localhost", "ip6-localhost",
     "localhost.localdomain", "127.0.0.1", "127.255.0.9", "127.1", "127.0.1", "0",
     "0.1.2.3", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "::1",
     "::", "0:0::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0.0.0.0"],
)  # fmt: skip
def test_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    ["", "registry.example", "localhost.example", "notlocalhost", "127.example",
     "128.0.0.1", "10.0.0.1", "192.168.127.1", "2001:db8::1", "::ffff:10.0.0.1",
     "fe80::1", "1.2.3.4.5", "999.1", "a:b", "0xg", "mirror7"],
)  # fmt: skip
def test_another_machine(host: str) -> None:
    assert not is_this_machine(host)
