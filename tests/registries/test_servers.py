"""The registries that the other tests stand on do what these say of them."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.registries.between import Between
from tests.registries.certificates import Authority
from tests.registries.servers import LOGIN, docker_registry
from tests.registries.token_server import basic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries.servers import RunningRegistry

IMAGE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"


def status(url: str, **headers: str) -> tuple[int, str]:
    """Ask, and return status and challenge."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as ok:
            return ok.status, ""
    except urllib.error.HTTPError as why:
        with why:
            return why.code, why.headers.get("WWW-Authenticate", "")


def push(host: str, path: str, *, tag: str | None) -> str:
    """Push a manifest over an empty blob by hand; return its digest."""
    empty = f"sha256:{hashlib.sha256(EMPTY).hexdigest()}"
    layer = {"mediaType": "application/x", "digest": empty, "size": len(EMPTY)}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": layer,
        "layers": [layer],
        "annotations": {"tag": str(tag)},
    }
    data = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("POST", f"/v2/{path}/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202
    where = answer.headers["Location"]
    where += f"{'&' if '?' in where else '?'}digest={empty}"
    connection.request("PUT", where, EMPTY)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201
    where = f"/v2/{path}/manifests/{tag or digest}"
    connection.request("PUT", where, data, {"Content-Type": IMAGE})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201
    connection.close()
    return digest


def test_open_registry_keeps_what_is_pushed(open_registry: RunningRegistry) -> None:
    digest = push(open_registry.host, "acme/app", tag="1.0.0")
    got, data = open_registry.ask("/v2/acme/app/manifests/1.0.0", accept=IMAGE)
    assert got == 200
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest


def test_garbage_collection_takes_what_has_no_tag(tmp_path: Path) -> None:
    with docker_registry(tmp_path) as registry:
        kept = push(registry.host, "acme/app", tag="1.0.0")
        lost = push(registry.host, "acme/app", tag=None)
        registry.collect_garbage()
        assert registry.ask(f"/v2/acme/app/manifests/{kept}", accept=IMAGE)[0] == 200
        assert registry.ask(f"/v2/acme/app/manifests/{lost}", accept=IMAGE)[0] == 404


def test_basic_registry_asks_for_a_login(tmp_path: Path) -> None:
    with docker_registry(tmp_path, auth="basic") as registry:
        url = f"{registry.url}/v2/"
        assert status(url)[0] == 401
        assert status(url, Authorization=basic(*LOGIN))[0] == 200
        assert status(url, Authorization=basic("plant", "other"))[0] == 401
        auth = json.loads(registry.docker_config.read_bytes())["auths"]
        assert f"Basic {auth[registry.host]['auth']}" == basic(*LOGIN)


def test_token_registry_asks_for_a_token_of_the_right_scope(tmp_path: Path) -> None:
    with docker_registry(tmp_path, auth="token") as registry:
        tokens = registry.tokens
        assert tokens is not None
        url = f"{registry.url}/v2/acme/app/tags/list"
        got, challenge = status(url)
        assert got == 401
        assert f'realm="{tokens.realm}"' in challenge
        assert 'scope="repository:acme/app:pull"' in challenge
        right = tokens.token(["repository:acme/app:pull"])
        wrong = tokens.token(["repository:acme/other:pull"])
        assert status(url, Authorization=f"Bearer {right}")[0] == 404
        assert status(url, Authorization=f"Bearer {wrong}")[0] == 401
        assert status(f"{tokens.realm}?service=other")[0] == 401


def test_mutual_tls_registry_asks_for_a_certificate(tmp_path: Path) -> None:
    with docker_registry(tmp_path, tls="mutual") as registry:
        assert registry.ask("/v2/")[0] == 200
        assert registry.authority is not None
        context = ssl.create_default_context(cafile=str(registry.authority.file))
        with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"{registry.url}/v2/", context=context)


@pytest.mark.parametrize("referrers", [True, False])
def test_olareg_has_referrers_as_told(
    olareg_registry: Any, tmp_path: Path, referrers: bool
) -> None:
    with olareg_registry(tmp_path, referrers=referrers) as registry:
        digest = push(registry.host, "acme/app", tag="1.0.0")
        got, _ = registry.ask(f"/v2/acme/app/referrers/{digest}")
        assert got == (200 if referrers else 405)
        assert (tmp_path / "data" / "acme" / "app" / "oci-layout").is_file()


def test_relay_counts(open_registry: RunningRegistry) -> None:
    with Between(to=open_registry.host) as relay:
        push(relay.host, "acme/app", tag="1.0.0")
        assert relay.connections == 1
        assert relay.count("PUT", "/manifests/") == 1
        assert [one.method for one in relay.passed] == ["POST", "PUT", "PUT"]


def test_proxy_opens_tls_and_changes_bytes(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "proxy", "proxy")
    with docker_registry(tmp_path / "registry", tls="server") as registry:
        assert registry.authority is not None
        with Between(
            authority=authority,
            upstream_ca=registry.authority.file,
            change=lambda _, body: body.replace(b"{", b"["),
        ) as proxy:
            context = ssl.create_default_context(cafile=str(authority.file))
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({"https": proxy.url}),
                urllib.request.HTTPSHandler(context=context),
            )
            for _ in range(2):
                with opener.open(f"{registry.url}/v2/") as answer:
                    assert answer.read() == b"[}"
            assert [one.path for one in proxy.passed] == ["/v2/", "/v2/"]
