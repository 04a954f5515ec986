"""Attestations in real registries: in the trust repository under tags of their own, and
beside the package as referrers where the registry lists these by itself."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.copying import copy_releases
from margo_supplychain.authoring.inbox import DirectoryInbox
from margo_supplychain.authoring.publish import publish
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import FetchError, OciFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import INDEX, MANIFEST, Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.formats.registry_form import ATTESTATION
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.oci_registry import RegistryRepository
from margo_supplychain.transport.opening import open_sink, open_source
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.market import PUMP as MARKET_PUMP
from tests.authoring.market import Market
from tests.authoring.proving import (
    ANY,
    PROVEN,
    allow_summaries,
    demand,
    links_of,
    make_demanding,
)
from tests.authoring.trust import PUMP, Vendor, key
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import quick
from tests.world.provenance import LINK, SUMMARY, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.authoring.publish import Published
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source
    from tests.registries.hostile import Lie
    from tests.registries.servers import RunningRegistry


class EveryLocation:
    """Content where records say; implements `ContentSources`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        return [open_source(one, network=self._network) for one in locations]


class Registered:
    """A vendor whose repository was copied into a registry, and is edited there."""

    def __init__(self, vendor: Vendor, host: str, network: Network) -> None:
        self.vendor = vendor
        self.network = network
        self.host = host
        self.trust = f"oci://{host}/acme/trust"
        self.root = vendor.repository.root
        with open_shelf(self.trust, network=network) as shelf:
            copy_releases(
                DirectorySource(vendor.trust),
                shelf,
                trust=TrustStore.unsafe_without_memory(root=self.root),
                open_repository=lambda url: open_sink(url, network=network),
                clock=vendor.clock,
            )

    @property
    def repository(self) -> Repository:
        return Repository.open(self.trust, root=self.root, network=self.network)

    def publish(self, version: str, given: Sequence[bytes] | None = None) -> Published:
        made = self.vendor.release(version)
        return publish(
            self.repository,
            [made],
            keys=[key("ci")],
            attestations=links_of(made) if given is None else given,
            clock=self.vendor.clock,
        )

    def verifier(self) -> Verifier:
        return Verifier(
            store=TrustStore.unsafe_without_memory(root=self.root, publishers=None),
            source=open_source(self.trust, network=self.network),
            content=EveryLocation(self.network),
            policy=PROVEN,
            clock=self.vendor.clock,
        )

    def package(self) -> RegistryRepository:
        at = RegistryReference.parse(f"oci://{self.host}/acme/{PUMP.name}")
        return RegistryRepository(at, network=self.network)


def made_in(tmp_path: Path, host: str, network: Network) -> Registered:
    return Registered(make_demanding(Vendor(tmp_path)), host, network)


# --- where the registry has the API --------------------------------------------------


def test_referrers_of_the_package(
    tmp_path: Path,
    olareg_registry: Callable[..., AbstractContextManager[RunningRegistry]],
) -> None:
    """Any tool that asks finds the envelopes, byte for byte; nothing has a tag."""
    with olareg_registry(tmp_path / "registry") as running:
        site = made_in(tmp_path / "vendor", running.host, running.network())
        done = site.publish("1.0.0")
        assert done.warnings == ()
        assert str(site.verifier().verify(PUMP, ANY).version) == "1.0.0"
        artifact = done.releases[0].artifact
        path = f"/v2/acme/{PUMP.name}"
        status, body = running.ask(f"{path}/referrers/{artifact}", accept=INDEX)
        assert status == 200
        listed = json.loads(body)["manifests"]
        given = links_of(site.vendor.release("1.0.0"))
        assert {one["artifactType"] for one in listed} == {ATTESTATION}
        assert len(listed) == len(given) == 3
        found = []
        for one in listed:
            assert one["annotations"]["in-toto.io/predicate-type"] == LINK
            assert one["annotations"]["predicateType"] == LINK
            _, manifest = running.ask(
                f"{path}/manifests/{one['digest']}", accept=MANIFEST
            )
            said = json.loads(manifest)
            assert said["subject"]["digest"] == str(artifact)
            (layer,) = said["layers"]
            found.append(running.ask(f"{path}/blobs/{layer['digest']}")[1])
        assert sorted(found) == sorted(given)
        assert list(site.package().tags()) == ["1.0.0"]
        assert site.repository.check(clock=site.vendor.clock).violations == ()
        # Published again, nothing moves.
        assert not site.publish("1.0.0").changed


def test_a_summary_refers_as_well(
    tmp_path: Path,
    olareg_registry: Callable[..., AbstractContextManager[RunningRegistry]],
) -> None:
    with olareg_registry(tmp_path / "registry") as running:
        vendor = make_demanding(Vendor(tmp_path / "vendor"))
        with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
            allow_summaries(edit, "verifier")
        site = Registered(vendor, running.host, running.network())
        done = site.publish("1.0.0")
        report = site.verifier().verify(PUMP, ANY).report
        said: dict[str, Any] = json.loads(
            report.to_vsa(verifier="https://verifier.example")
        )
        assert site.publish("1.0.0", [envelope(said, "verifier")]).changed
        entries = site.package().referrers(done.releases[0].artifact)
        types = [one.annotations["predicateType"] for one in entries]
        assert types.count(SUMMARY) == 1
        assert len(types) == 4


# --- and where it has not ------------------------------------------------------------


def test_no_tag_stands_in_for_the_api(
    tmp_path: Path,
    olareg_registry: Callable[..., AbstractContextManager[RunningRegistry]],
) -> None:
    with olareg_registry(tmp_path / "registry", referrers=False) as running:
        site = made_in(tmp_path / "vendor", running.host, running.network())
        assert site.publish("1.0.0").warnings == ()
        assert list(site.package().tags()) == ["1.0.0"]
        assert str(site.verifier().verify(PUMP, ANY).version) == "1.0.0"


def test_docker_registry(tmp_path: Path, open_registry: RunningRegistry) -> None:
    host = f"{open_registry.host}/{tmp_path.name}".lower()
    vendor = make_demanding(Vendor(tmp_path / "vendor"))
    site = Registered(vendor, host, open_registry.network())
    assert site.publish("1.0.0").warnings == ()
    assert list(site.package().tags()) == ["1.0.0"]
    assert str(site.verifier().verify(PUMP, ANY).version) == "1.0.0"
    assert site.repository.check(clock=vendor.clock).violations == ()


# --- a registry that lies ------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@pytest.mark.parametrize(
    ("where", "lie"),
    [
        ("GET .*/referrers/", lies.status(500)),
        ("GET .*/referrers/", lies.body(b"{}")),
        ("GET .*/referrers/", lies.hangs_up),
        ("PUT .*/pump-monitor/manifests/sha256", lies.status(403)),
        ("PUT .*/pump-monitor/manifests/sha256", lies.status(500)),
    ],
)
def test_referrers_are_never_fatal(
    tmp_path: Path, server: HostileRegistry, where: str, lie: Lie
) -> None:
    """A release is published, whatever becomes of what other tools may look for."""
    site = made_in(tmp_path, server.host, quick())
    site.publish("1.0.0")
    server.lies(where, lie)
    (warning,) = site.publish("1.1.0").warnings
    assert "does not list what attests to package" in warning
    server.is_honest_again()
    assert str(site.verifier().verify(PUMP, ANY).version) == "1.1.0"
    assert site.repository.check(clock=site.vendor.clock).violations == ()


def test_referrers_that_others_add_are_nothing_to_devices(
    tmp_path: Path, server: HostileRegistry
) -> None:
    """A registry lists what it likes, and nobody asks it."""
    site = made_in(tmp_path, server.host, quick())
    done = site.publish("1.0.0")
    server.lies("GET .*/referrers/", lies.status(500))
    before = len(server.asked("/referrers/"))
    release = site.verifier().verify(PUMP, ANY)
    assert release.manifest.digest == done.releases[0].artifact
    assert len(server.asked("/referrers/")) == before


def test_a_referrer_by_hand(server: HostileRegistry) -> None:
    at = RegistryReference.parse(f"oci://{server.host}/acme/app")
    client = RegistryRepository(at, network=quick())
    sink = TaggedSink(client)
    subject = Descriptor.of(b"{}", MANIFEST)
    assert client.has_referrers(subject.digest)
    with pytest.raises(OciFormatError, match="refers to nothing"):
        client.put_referrer(
            manifest_bytes(artifact_type="application/x", layers=[Layer(subject)]),
            MANIFEST,
        )
    server.referrers = False
    assert not client.has_referrers(subject.digest)
    data = b"envelope"
    what = Descriptor.of(data, ATTESTATION)
    assert not sink.put_referrer(subject, what, io.BytesIO(data), annotations={})
    assert not server.asked("^(PUT|POST)")
    server.lies("referrers", lies.status(500))
    with pytest.raises(FetchError):
        client.has_referrers(Digest.of(b"x"))


# --- submitted -----------------------------------------------------------------------


def test_a_vendor_lets_his_own_registry_list_them(
    tmp_path: Path, server: HostileRegistry
) -> None:
    """The operator publishes the record; the vendor pushed the package, and more."""
    market = Market(tmp_path)
    market.open_market()
    with market.submit("acme") as edit:
        demand(edit, MARKET_PUMP, offline="acme")
    assert market.accept().refused == ()
    home = f"oci://{server.host}/acme/pump"

    def made(version: str) -> Release:
        found = market.release(version, name=MARKET_PUMP)
        return replace(found, locations=(home,))

    view = Repository.view(market.trust, root=market.repository.root, network=quick())
    inbox = DirectoryInbox(market.directory / "inbox")
    release = made("1.1.0")
    with view.submit([key("acme-ci")], inbox=inbox, clock=market.clock) as edit:
        edit.add_release(release, attestations=links_of(release))
    client = RegistryRepository(RegistryReference.parse(home), network=quick())
    assert len(client.referrers(release.artifact.digest)) == 3
    done = market.accept(content=EveryLocation(quick()))
    assert done.refused == ()
