"""What may be said about the network, and what is kept to one registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from margo_supplychain.transport.network import Network, RegistryAccess, is_loopback

MINE = RegistryAccess(ca_file=Path("ca.pem"))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("r.example", "https://r.example/v2/"),
        ("R.example", "https://r.EXAMPLE:443/v2/"),
        ("r.example:443", "https://r.example/"),
        ("r.example", "http://r.example:80/"),
        ("r.example:5000", "https://r.example:5000/v2/"),
        ("r.example:5000", "http://r.example:5000/v2/"),
        ("[::1]:5000", "https://[::1]:5000/"),
        ("[::1]", "https://[::1]/"),
    ],
)
def test_access_to_its_origin(name: str, url: str) -> None:
    assert Network(registries={name: MINE}).access(url) is MINE


@pytest.mark.parametrize(
    "url",
    [
        "https://r.example:444/",
        "https://r.example:80/",
        "http://r.example:443/",
        "https://x.r.example/",
        "https://r.example.evil.example/",
        "https://evil.example/r.example",
        "https://r.example@evil.example/",
    ],
)
def test_access_to_no_other_origin(url: str) -> None:
    found = Network(registries={"r.example": MINE}).access(url)
    assert found == RegistryAccess()


@pytest.mark.parametrize(
    "name",
    ["", "oci://r.example", "r.example/acme", "r.example:0", "r.example:65536",
     "r.example:", "a b", "-a", "[::1", "me@r.example", "é.example",
     # Spellings that no reference has: what they say would silently not be used.
     "r.example.", "r..example", "r.example:05000", "[0:0:0:0:0:0:0:1]:5000", "[::1g]"],
)  # fmt: skip
def test_registry_that_is_no_host(name: str) -> None:
    with pytest.raises(ValueError, match="is not HOST or HOST:PORT"):
        Network(registries={name: MINE})


def test_registry_named_twice() -> None:
    with pytest.raises(ValueError, match="is there twice"):
        Network(registries={"r.example": MINE, "R.example": MINE})


def test_registries_do_not_change_later() -> None:
    given = {"r.example": MINE}
    network = Network(registries=given)
    given["evil.example"] = MINE
    assert list(network.registries) == ["r.example"]
    assert network == Network(registries={"r.example": MINE})
    assert hash(network) == hash(Network(registries={"r.example": MINE}))


@pytest.mark.parametrize(
    "proxy",
    ["proxy:3128", "socks5://me:secret@proxy", "http://", "http://me:secret@proxy:0",
     "http://me:secret@proxy/path", "http://proxy/?secret", "http://[secret",
     "http://proxy/#secret", "http://pro xy"],
)  # fmt: skip
def test_proxy_that_is_none(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy is not") as caught:
        RegistryAccess(proxy=proxy)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["", "http://me:secret@proxy:3128", "https://proxy/"])
def test_proxy_is_not_shown(proxy: str) -> None:
    access = RegistryAccess(proxy=proxy)
    assert access.proxy == proxy
    shown = repr(Network(registries={"r.example": access}))
    assert "proxy=" not in shown
    assert "secret" not in shown


def test_key_without_a_certificate() -> None:
    with pytest.raises(ValueError, match="private_key is given without"):
        RegistryAccess(private_key=Path("key.pem"))


@pytest.mark.parametrize(
    ("host", "found"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
     ("LOCALHOST", True), ("127.0.0.1.example", False), ("128.0.0.1", False),
     ("localhost.example", False), ("", False), ("::2", False)],
)  # fmt: skip
def test_loopback(host: str, *, found: bool) -> None:
    assert is_loopback(host) == found


@pytest.mark.parametrize(
    "limits",
    [
        {"connect_timeout": 0},
        {"read_timeout": -1},
        {"deadline": float("inf")},
        {"response_timeout": float("nan")},
        {"minimum_rate": 0},
        {"tries": 0},
        {"longest_delay": -1},
        {"longest_delay": float("inf")},
        {"redirects": -1},
        {"redirects": 21},
    ],
)
def test_limits_limit(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        Network(**limits)
