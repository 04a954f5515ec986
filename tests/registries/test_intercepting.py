"""Everything through an inspecting proxy: first an honest one, then one that changes.

The proxy opens TLS with certificates of its own authority, which vendor and devices are
told to trust, and stands before docker-registry. Whatever it does to a request or an
answer, a device takes what was signed or nothing, and a publication that said that it
worked did. `tests/attacks/test_registry_interception.py` has a device's requests one by
one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.cli.running import run
from tests.registries.between import Between
from tests.registries.certificates import Authority
from tests.registries.clients import blobs_below
from tests.registries.servers import docker_registry
from tests.registries.site import Site, must

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Inspected(NamedTuple):
    site: Site
    proxy: Between


@pytest.fixture
def inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inspected]:
    """A vendor and devices who reach the registry through a proxy alone."""
    company = Authority(tmp_path / "company", "company")
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    with docker_registry(tmp_path / "registry", tls="server") as registry:
        assert registry.authority is not None
        with Between(authority=company, upstream_ca=registry.authority.file) as proxy:
            site = Site(place, registry)
            site.proxy = proxy.url, company.file
            site.begin()
            site.publish("1.2.0")
            yield Inspected(site, proxy)


def test_honest_proxy(inspected: Inspected) -> None:
    site, proxy = inspected
    assert site.device("device").install() == "1.2.0"
    for method in ("HEAD", "POST", "PUT", "GET"):
        assert proxy.count(method) > 0


# --- publishing ----------------------------------------------------------------------


class OneBit:
    """Changes one bit of the first body for a path in which `part` is found."""

    def __init__(self, part: str) -> None:
        self._part = re.compile(part)
        self.is_done = False

    def __call__(self, path: str, body: bytes) -> bytes:
        if self.is_done or not body or self._part.search(path) is None:
            return body
        self.is_done = True
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 4]) + body[middle + 1 :]


CHANGES: Final = {
    "a blob that is pushed": ("sent", "/blobs/uploads/.*digest="),
    "a package's manifest that is pushed": ("sent", "/pump-monitor/manifests/"),
    "a record that is pushed": ("sent", "/trust/manifests/t\\."),
    "a role that is pushed": ("sent", "/trust/manifests/[0-9]+\\.acme\\."),
    "a snapshot that is pushed": ("sent", "/trust/manifests/[0-9]+\\.snapshot"),
    "a timestamp that is pushed": ("sent", "/trust/manifests/timestamp"),
    "a root that is read": ("answered", "/trust/manifests/[0-9]+\\.root"),
    "a timestamp that is read": ("answered", "/trust/manifests/timestamp"),
    "a snapshot that is read": ("answered", "/trust/manifests/[0-9]+\\.snapshot"),
    "a role that is read": ("answered", "/trust/manifests/[0-9]+\\.acme"),
    "a record that is read": ("answered", "/trust/blobs/"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_published_through_a_proxy_that_changes(
    name: str, inspected: Inspected
) -> None:
    """Either it is published as it was built, or the command says that it is not; in
    both cases devices have a whole release, and the next attempt lands."""
    site, proxy = inspected
    assert site.device("sane").install() == "1.2.0"
    where, part = CHANGES[name]
    site.build("1.3.0")
    change = OneBit(part)
    if where == "sent":
        proxy.change_sent = change
    else:
        proxy.change = change
    ran = site.try_to_publish("1.3.0")
    proxy.change = proxy.change_sent = None
    assert change.is_done
    assert ran.status in (0, 3, 4), ran.err
    between = site.device("between").verify()
    if ran.status == 0:
        assert between.json["result"]["version"] == "1.3.0"
    else:
        assert between.json["result"]["version"] == "1.2.0"
        again = site.try_to_publish("1.3.0")
        assert again.status == 0, again.out
    require_published(site)


def require_published(site: Site) -> None:
    """Demand that a new device gets 1.3.0 exactly as it was built."""
    device = site.device("after")
    assert device.install() == "1.3.0"
    built = dict(blobs_below(site.place / "dist-1.3.0"))
    assert built.items() <= dict(blobs_below(device.staging)).items()


@pytest.mark.parametrize("name", [one for one in CHANGES if one.endswith("pushed")])
def test_published_through_a_proxy_that_always_changes(
    name: str, inspected: Inspected
) -> None:
    """It is never said to be published; and when the proxy has gone, it can be."""
    site, proxy = inspected
    running = site.device("running")
    assert running.install() == "1.2.0"
    site.mirror("copy")
    _, part = CHANGES[name]
    site.build("1.3.0")

    def every(path: str, body: bytes) -> bytes:
        return OneBit(part)(path, body)

    proxy.change_sent = every
    for _ in range(2):
        ran = site.try_to_publish("1.3.0")
        assert ran.status in (2, 3, 4), ran.out
        said = running.verify()
        assert said.status == 4 or said.json["result"]["version"] == "1.2.0"
    proxy.change_sent = None
    if "timestamp" in name:
        # Without one there is nothing to go by: the place is copied anew.
        must(run("repo", "mirror", "copy", site.trust, "--root", "root.json"))
    if "package" in name:
        # A tag never moves, whoever wrote it.
        assert site.try_to_publish("1.3.0").status == 2
        site.publish("1.3.1")
        assert site.device("after").install() == "1.3.1"
        return
    must(site.try_to_publish("1.3.0"))
    require_published(site)


def test_proxy_whose_authority_is_not_known(inspected: Inspected) -> None:
    """No request passes; nothing is published, and a device can't tell."""
    site, proxy = inspected
    assert site.registry is not None
    assert site.registry.authority is not None
    site.proxy = proxy.url, site.registry.authority.file
    device = site.device("device")
    proxy.passed.clear()
    refused = device.verify()
    assert refused.status == 4
    assert refused.json["error"]["code"] == "fetch"
    assert "certificate" in refused.json["error"]["message"]
    assert proxy.passed == []
    ran = run("repo", "mirror", site.trust, "copy", "--root", "root.json")
    assert ran.status == 0  # the vendor's own settings are as they were
