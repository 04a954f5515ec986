"""The tables about mirrors and registries, as a file spells them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from margo_supplychain.cli.registry_settings import (
    MAX_REGISTRIES,
    RegistrySettings,
    is_location,
    locate,
    parse_registry_tables,
)
from margo_supplychain.errors import FormatError
from margo_supplychain.transport.network import RegistryAccess

BASE = Path("/etc/margo")
VENDOR = "oci://registry.acme.example/acme"


def parse(text: str) -> RegistrySettings:
    return parse_registry_tables(tomllib.loads(text), BASE, "device.toml")


def test_both_tables() -> None:
    found = parse(f"""
        [other]
        not-ours = true

        [mirrors]
        "{VENDOR}" = ["oci://mirror.plant:5000/acme", "oci-layout:stick", "copy"]

        [registry."mirror.plant:5000"]
        plain_http = true

        [registry."registry.acme.example"]
        ca_file = "plant-ca.pem"
        certificate = "/etc/ssl/device.pem"
        private_key = "device.key"
        proxy = "http://proxy:3128"
        token_host = "auth.acme.example"

        [registry.localhost]
        proxy = ""
    """)
    assert found.mirrors.places(f"{VENDOR}/pump") == (
        "oci://mirror.plant:5000/acme/pump",
        "oci-layout:/etc/margo/stick",
        "/etc/margo/copy",
    )
    assert found.network is not None
    assert dict(found.network.registries) == {
        "mirror.plant:5000": RegistryAccess(plain_http=True),
        "registry.acme.example": RegistryAccess(
            ca_file=BASE / "plant-ca.pem",
            certificate=Path("/etc/ssl/device.pem"),
            private_key=BASE / "device.key",
            proxy="http://proxy:3128",
            token_host="auth.acme.example",
        ),
        "localhost": RegistryAccess(proxy=""),
    }


@pytest.mark.parametrize("text", ["", "[mirrors]", "[registry]", "[other]"])
def test_nothing_said(text: str) -> None:
    found = parse(text)
    assert not found.mirrors
    assert found.network is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mirrors = 1", "mirrors is not a table"),
        (f'[mirrors]\n"{VENDOR}" = "a"', "is not a list of paths or URLs"),
        (f'[mirrors]\n"{VENDOR}" = [1]', "is not a list of paths or URLs"),
        (f'[mirrors]\n"{VENDOR}" = [""]', "is not a list of paths or URLs"),
        (f'[mirrors]\n"{VENDOR}" = []', "has 0 places"),
        ('[mirrors]\n"https://a.example" = ["b"]', "no prefix of a location"),
        ("registry = 1", "registry is not tables like"),
        ("[registry]\na = 1", "registry.'a' is not a table"),
        ("[registry.a]\nca-file = 'x'", "has an unknown key 'ca-file', expected one"),
        ("[registry.a]\npassword = 'secret'", "has an unknown key 'password'"),
        ("[registry.a]\nplain_http = 1", "plain_http is not true or false"),
        ("[registry.a]\nca_file = 1", "ca_file is not a path"),
        ("[registry.a]\ncertificate = ''", "certificate is not a path"),
        ("[registry.a]\nproxy = 1", "proxy is not a text"),
        ("[registry.a]\nproxy = 'ftp://secret@b'", "registry.'a': proxy is not"),
        ("[registry.a]\ntoken_host = 1", "token_host is not a text"),
        ("[registry.a]\ntoken_host = 'a/b'", "token_host"),
        ("[registry.a]\nprivate_key = 'k'", "without its certificate"),
        ("[registry.'a/b']\n", "is not HOST or HOST:PORT"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        parse(text)
    assert str(caught.value).startswith("device.toml: ")
    assert caught.value.where == "device.toml"
    assert "secret" not in str(caught.value)


def test_credentials_have_their_own_place() -> None:
    with pytest.raises(FormatError) as caught:
        parse("[registry.a]\ntoken = 'secret'")
    assert "docker login" in (caught.value.hint or "")


def test_as_many_as_a_person_can_name() -> None:
    text = "\n".join(f"[registry.r{n}]" for n in range(MAX_REGISTRIES + 1))
    with pytest.raises(FormatError, match="registry is not tables"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("trust", "/etc/margo/trust"),
        ("/srv/trust", "/srv/trust"),
        ("file:tr%20ust", "/etc/margo/tr ust"),
        ("file:///srv/trust", "file:///srv/trust"),
        ("oci-layout:stick", "oci-layout:/etc/margo/stick"),
        ("oci-archive:/a.tar", "oci-archive:/a.tar"),
        ("oci-archive:a.tar", "oci-archive:/etc/margo/a.tar"),
        ("https://updates.example", "https://updates.example"),
        (VENDOR, VENDOR),
    ],
)
def test_where_a_path_starts(text: str, found: str) -> None:
    assert locate(text, BASE) == found


@pytest.mark.parametrize("value", [1, None, "", "a\nb", "a" * 2049])
def test_what_is_no_location(value: object) -> None:
    assert not is_location(value)
