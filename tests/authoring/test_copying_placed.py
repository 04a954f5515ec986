"""Components of every kind of name, copied into registries; devices are told nothing.

A fresh device asks where the record says, then the trust repository that it was given.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.authoring.checks import check_place
from margo_supplychain.authoring.content_look import look_at
from margo_supplychain.authoring.copying import copy_releases
from margo_supplychain.authoring.repairing import Repaired, repair
from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.registry_form import content_tag
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.mirrors import MirrorMap
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.attacks.packages import component
from tests.authoring.tagged import HOST, TRUST, EveryRepository, MemoryRegistry
from tests.authoring.trust import DEVICE_POLICY, PUMP
from tests.world import World
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import Component
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.transport.protocols import Source

PLANT: Final = "oci://mirror.plant:5000/acme/trust"
FOREIGN: Final = "oci://tools.example/proxies/nginx"


class Site:
    """A repository in a directory, and a registry of every name."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.world = World()
        self.registry = MemoryRegistry()
        self.source: Source = DirectorySource(place / "trust")

    def module(self, text: str) -> Descriptor:
        return self.world.artifact(text.encode())

    def publish(self) -> None:
        write_files(self.world.publish(), self.place / "trust")

    def trust(self) -> TrustStore:
        root = self.world.files.metadata["1.root.json"]
        return TrustStore.unsafe_without_memory(root=root)

    def sink(self, url: str) -> TaggedSink:
        return TaggedSink(self.registry.repository(url))

    def layout(self) -> LayoutSink:
        (self.place / "layout").mkdir()
        return LayoutSink(self.place / "layout")

    def copy(
        self, to: TaggedSink, source: Source | None = None
    ) -> Mapping[str, Sequence[str]]:
        done = copy_releases(
            source or self.source,
            to,
            trust=self.trust(),
            content=EveryRepository(self.registry),
            open_repository=self.sink,
            clock=self.world.clock,
        )
        return done.mirrors

    def check(self, at: TaggedSink) -> Report:
        return check_place(
            at,
            self.world.files.metadata["1.root.json"],
            content=look_at(at, open_repository=self.sink),
            store=None,
            now=self.world.clock.now(),
        )

    def repair(self, at: TaggedSink, *others: Source) -> Repaired:
        return repair(
            at,
            others,
            trust=self.trust(),
            content=EveryRepository(self.registry),
            open_repository=self.sink,
            clock=self.world.clock,
        )

    def fetch(
        self,
        url: str,
        pin: str = "*",
        mirrors: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        verifier = Verifier(
            store=self.trust(),
            source=self.sink(url),
            content=_Told(self.registry, MirrorMap(mirrors or {}), url),
            policy=DEVICE_POLICY,
            clock=self.world.clock,
        )
        release = verifier.verify(PUMP, Pin.parse_argument(pin))
        verifier.fetch(release, self.place / f"fetched-{url[6:9]}-{len(pin)}")


class _Told:
    """What a device asks that was told of `url`: its locations, then that."""

    def __init__(self, registry: MemoryRegistry, mirrors: MirrorMap, url: str) -> None:
        self._registry = registry
        self._mirrors = mirrors
        self._url = url

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        places: list[str] = []
        for one in locations:
            with suppress(OciFormatError):
                places += self._mirrors.places(one)
        return [self._registry.source(one) for one in (*places, self._url)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def part(what: Descriptor, name: str, repository: str) -> Component:
    return replace(component(what, name, kind="wasm"), repository=repository)


def test_a_release_of_a_directory(site: Site) -> None:
    """Neither the package nor components say where in this registry they lie."""
    parts = (
        part(site.module("web"), "web", f"{HOST}/acme/web"),
        part(site.module("chart"), "chart", "https://charts.example/chart"),
        part(site.module("odd"), "odd", f"{HOST}/Odd"),
        part(site.module("same"), "same", "https://charts.example/chart"),
    )
    site.world.release("1.0.0", components=parts)
    site.publish()
    assert site.copy(site.sink(TRUST)) == {}
    site.fetch(TRUST)
    assert set(site.registry.repositories) == {TRUST, f"{HOST}/acme/web"}
    tags = {one for one in site.registry.at(TRUST).tags if one.startswith("c.")}
    assert len(tags) == 4
    assert site.check(site.sink(TRUST)).verdict == "verified"

    mirrors = site.copy(site.sink(PLANT), site.sink(TRUST))
    assert mirrors == {f"{HOST}/acme": ("oci://mirror.plant:5000/acme",)}
    assert set(site.registry.at(PLANT).tags) == set(site.registry.at(TRUST).tags)
    for url in (TRUST, f"{HOST}/acme/web"):
        del site.registry.repositories[url]
    site.fetch(PLANT, "^1", mirrors)
    assert site.check(site.sink(PLANT)).verdict == "verified"


def test_a_revision_that_its_owner_moved(site: Site) -> None:
    """Releases name it by digest, and a copy has both."""
    one, other = site.module("one"), site.module("other")
    for version, what in (("1.0.0", one), ("1.1.0", other)):
        site.world.release(
            version,
            components=(part(what, "proxy", FOREIGN),),
            locations=(f"{HOST}/acme/pump-monitor",),
        )
    site.publish()
    mirrors = site.copy(site.sink(PLANT))
    assert site.copy(site.sink(PLANT)) == mirrors
    there = site.registry.at("oci://mirror.plant:5000/acme/tools.example/proxies/nginx")
    assert there.tags == {"2.0.0": str(one.digest)}
    # An application's repository gets no tags but those of versions.
    assert content_tag(other.digest) in site.registry.at(PLANT).tags
    for pin in ("1.0.0", "^1.1.0"):
        site.fetch(PLANT, pin, mirrors)
    assert site.check(site.sink(PLANT)).verdict == "verified"
    layout = site.layout()
    site.copy(layout)
    assert {one for one in layout._writer.tags() if "nginx" in one or "c." in one} >= {
        "tools.example/proxies/nginx:2.0.0",
        content_tag(other.digest),
    }
    assert site.check(layout).verdict == "verified"


def test_a_version_that_is_taken(site: Site) -> None:
    """Its tag stays, and the release lies beside the trust metadata."""
    site.world.release("1.0.0", locations=(f"{HOST}/acme/pump-monitor",))
    site.publish()
    home = site.registry.at("oci://mirror.plant:5000/acme/pump-monitor")
    home.manifests[str(Digest.of(b"{}"))] = b"{}"
    home.tags["1.0.0"] = str(Digest.of(b"{}"))
    mirrors = site.copy(site.sink(PLANT))
    assert home.tags["1.0.0"] == str(Digest.of(b"{}"))
    site.fetch(PLANT, "1.0.0", mirrors)
    assert site.check(site.sink(PLANT)).verdict == "verified"


def test_content_must_not_take_a_name_of_metadata(site: Site) -> None:
    """A publisher whose component says that it is the mirror's next root."""
    what = site.module("root")
    evil = replace(part(what, "root", TRUST), revision="2.root")
    site.world.release("1.0.0", components=(evil,))
    site.publish()
    for url in (TRUST, PLANT):
        site.copy(site.sink(url))
        assert "2.root" not in site.registry.at(url).tags
        site.fetch(url)
        assert site.check(site.sink(url)).verdict == "verified"


def test_content_that_wishes_for_a_name_of_other_metadata(site: Site) -> None:
    """Two repositories lie below one parent; one publisher stops neither, nor a copy
    of his own."""
    other = f"{HOST}/acme/other"
    site.sink(other).put_metadata("1.root.json", b"{}")
    what = site.module("root")
    evil = replace(part(what, "root", other), revision="2.root")
    site.world.release("1.0.0", components=(evil,))
    site.publish()
    site.copy(site.sink(TRUST))
    assert "2.root" not in site.registry.at(other).tags
    site.fetch(TRUST)
    assert site.check(site.sink(TRUST)).verdict == "verified"


def test_a_component_that_a_directory_left_to_its_owner(site: Site) -> None:
    """A repair brings back what another copy has, in its own place as well."""
    what = site.module("proxy")
    site.world.release("1.0.0", components=(part(what, "proxy", FOREIGN),))
    site.publish()
    site.copy(site.sink(PLANT))
    blob = site.place / "trust/blobs/sha256" / what.digest.hex
    layout = site.layout()
    site.copy(layout)
    lost = layout.directory / "blobs/sha256" / what.digest.hex
    lost.unlink()
    blob.unlink()
    assert site.repair(layout, site.source).restored == ()
    assert site.repair(layout, site.sink(PLANT)).restored == (str(what.digest),)
    assert lost.is_file()
