"""Which proxy a request meets, and which it must not."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network, RegistryAccess
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.transport.liar import Liar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONCE = Network(tries=1, connect_timeout=5, response_timeout=5)
UPDATES = "http://updates.example.org"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def proxy() -> Iterator[Liar]:
    with Liar() as server:
        server.serves(f"{UPDATES}/metadata/timestamp.json", b"proxied")
        yield server


def timestamp(url: str = UPDATES) -> bytes:
    return HttpSource.of(url, network=ONCE).metadata("timestamp.json", limit=100)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("login", ["", "me:secret@"])
def test_proxy_without_a_scheme(
    proxy: Liar, monkeypatch: pytest.MonkeyPatch, name: str, login: str
) -> None:
    """As curl takes it."""
    if name.isupper() and "REQUEST_METHOD" in os.environ:
        pytest.skip("Python does not believe it there")
    monkeypatch.setenv(name, f"{login}127.0.0.1:{proxy.server_port}")
    assert timestamp() == b"proxied"
    headers = {name.lower(): text for name, text in proxy.requests[-1][1].items()}
    shown = base64.b64encode(b"me:secret").decode()
    assert headers.get("proxy-authorization") == (f"Basic {shown}" if login else None)


@pytest.mark.parametrize(
    "text",
    [
        "http://[",
        "http://me:secret@proxy.example:99999",
        "http://me:secret@:3128",
        "http://me:secret@proxy.example:3128/secret",
        "http://me:sec\x9bret@proxy.example",
        "socks5://me:secret@proxy.example:1080",
        "me:secret",
        "://secret",
    ],
)
def test_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("https_proxy", text)
    with pytest.raises(FetchError, match="the proxy that https_proxy names") as caught:
        timestamp("https://updates.example.org")
    assert "secret" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"
    assert caught.value.unreachable
    assert caught.value.hint == "correct https_proxy in the environment"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "LOCALHOST"])
def test_this_machine_is_reached_without(
    proxy: Liar, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for scheme in ("http", "https"):
        with pytest.raises(FetchError, match="connection refused"):
            timestamp(f"{scheme}://{host}:9")
    assert proxy.requests == []


def registry(directory: Path, *, named: str | None) -> RegistryRepository:
    """A registry on this machine, with a login."""
    login = base64.b64encode(b"operator:secret").decode()
    config = directory / "config.json"
    config.write_text(json.dumps({"auths": {"localhost:9": {"auth": login}}}))
    access = {} if named is None else {"localhost:9": RegistryAccess(proxy=named)}
    network = Network(tries=1, registries=access, docker_config=config)
    reference = RegistryReference.parse("oci://localhost:9/acme/trust")
    return RegistryRepository(reference, network=network)


def test_login_for_this_machine_goes_to_no_proxy(
    proxy: Liar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither to one of the environment nor to one that is named for it."""
    url = "http://localhost:9/v2/acme/trust/manifests/timestamp"
    proxy.answers_with(
        url, lambda talk: talk.say(401, WWW_Authenticate='Basic realm="x"')
    )
    monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(FetchError, match="connection refused"):
        registry(tmp_path, named=None).manifest("timestamp")
    with pytest.raises(FetchError, match="a proxy is named for it") as caught:
        registry(tmp_path, named=proxy.url).manifest("timestamp")
    assert "leave proxy out" in str(caught.value.hint)
    with pytest.raises(FetchError, match="connection refused"):
        registry(tmp_path, named="").manifest("timestamp")
    assert proxy.requests == []
