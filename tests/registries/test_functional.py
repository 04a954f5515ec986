"""One story at the command line, in every kind of place that content can lie in.

docker-registry without a login, with one, with tokens and with client certificates;
olareg with and without the referrers API; a directory with an OCI image layout.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from oras.provider import Registry

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import EMPTY, MANIFEST, Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.cli.vendor import NAME
from tests.conftest import peer_or_skip
from tests.fixtures import image_index_layout
from tests.peers.clients import find_program
from tests.registries.clients import blobs_below
from tests.registries.site import KINDS, Site, push_all, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries.servers import DockerRegistry

DOCKER: Final = tuple(kind for kind in KINDS if kind.startswith("docker"))
REGISTRIES: Final = tuple(kind for kind in KINDS if kind != "layout")


@pytest.fixture
def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A vendor whose trust repository lies in a place of the kind asked for."""

    def olareg_or_skip() -> object:
        return peer_or_skip(lambda: find_program("olareg"), request.config)

    kind = getattr(request, "param", "docker-registry")
    with site_of(kind, tmp_path, monkeypatch, olareg_or_skip) as site:
        yield site


def anywhere(function: Any) -> Any:
    """Run a test in every kind of place."""
    return pytest.mark.parametrize("site", KINDS, indirect=True)(function)


def in_registries(function: Any) -> Any:
    """Run a test in every kind of registry."""
    return pytest.mark.parametrize("site", REGISTRIES, indirect=True)(function)


def content(site: Site, version: str) -> dict[str, bytes]:
    """Return what a build made, by digest."""
    return dict(blobs_below(site.place / f"dist-{version}"))


# --- the story -----------------------------------------------------------------------


@anywhere
def test_published_verified_and_fetched(site: Site) -> None:
    site.begin()
    site.publish("1.2.0")
    device = site.device("device")
    assert device.install() == "1.2.0"
    assert content(site, "1.2.0").items() <= dict(blobs_below(device.staging)).items()
    site.publish("1.3.0")
    assert device.install() == "1.3.0"
    assert content(site, "1.3.0").items() <= dict(blobs_below(device.staging)).items()
    assert site.device("new").install() == "1.3.0"
    site.vendor_command("repo", "check")
    site.signed("release", "withdraw", NAME, "1.3.0", "--reason", "leaks oil")
    refused = device.verify("1.3.0")
    assert refused.status == 3
    assert refused.json["error"]["code"] == "withdrawn"
    assert device.install() == "1.2.0"


TARGETS: Final = (
    *((kind, "registry") for kind in REGISTRIES),
    *(("docker-registry", to) for to in ("layout", "archive", "directory")),
    *(("layout", to) for to in ("layout", "archive", "directory")),
)


@pytest.mark.parametrize(("site", "to"), TARGETS, indirect=["site"])
def test_mirrored(site: Site, to: str, tmp_path: Path) -> None:
    """A plant copies a vendor's repository; its devices never ask the vendor."""
    site.begin()
    target = {
        "layout": f"oci-layout:{tmp_path / 'mirror'}",
        "archive": f"oci-archive:{tmp_path / 'stick.tar'}",
        "directory": str(tmp_path / "mirror"),
        "registry": f"{site.base}-mirror/trust",
    }[to]
    for version in ("1.2.0", "1.3.0"):
        site.publish(version)
        said = site.mirror(target)
        assert said["changed"]
        assert said["releases"]["withContent"] == said["releases"]["listed"]
        again = site.mirror(target)
        assert not again["changed"]
        assert again["blobs"]["new"] == 0
        device = site.device_of_mirror(f"device-{version}", target, said["mirrors"])
        assert device.install() == version
        built = content(site, version).items()
        assert built <= dict(blobs_below(device.staging)).items()


@pytest.mark.parametrize("site", DOCKER[:1], indirect=True)
def test_garbage_collection_takes_nothing_that_is_signed(site: Site) -> None:
    """Every manifest without a tag goes, and every blob without a manifest."""
    site.begin()
    site.publish("1.2.0")
    site.publish("1.3.0")
    registry: Any = site.registry
    collected: DockerRegistry = registry
    collected.collect_garbage()
    for version in ("1.2.0", "1.3.0"):
        device = site.device(f"device-{version}")
        assert device.install(version) == version
        built = content(site, version).items()
        assert built <= dict(blobs_below(device.staging)).items()
    site.vendor_command("repo", "check")
    site.publish("1.4.0")
    assert site.device("device").install() == "1.4.0"


@in_registries
def test_adopted_where_it_lies(site: Site, tmp_path: Path) -> None:
    """What another tool pushed is signed by its digest, and not pushed again."""
    assert site.registry is not None
    site.begin()
    layout = tmp_path / "layout"
    what = image_index_layout(layout, tag="2.0.0")
    target = repository(site, "acme/images")
    found = dict(blobs_below(layout))
    push_all(target, found, what)
    site.signed(
        *("release", "adopt", f"{site.base}/images@{what.digest}"),
        *("--name", NAME, "--version", "2.0.0"),
    )
    device = site.device("device")
    assert device.install() == "2.0.0"
    assert found.items() <= dict(blobs_below(device.staging)).items()


@pytest.mark.parametrize("site", ["docker-registry", "olareg"], indirect=True)
def test_adopted_from_oras_py(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oras-py verifies nothing of what it pulls; what it pushed is verified here."""
    registry = site.registry
    assert registry is not None
    site.begin()
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path / "files")
    files = {"app.wasm": b"\0asm\1\0\0\0", "rules.bin": bytes(range(256)) * 1000}
    for name, data in files.items():
        Path(name).write_bytes(data)
    pushing = Registry(registry.host, insecure=True)
    answer = pushing.push(f"{registry.host}/acme/wasm:1.0.0", files=list(files))
    assert answer.status_code == 201
    monkeypatch.chdir(site.place)
    digest = repository(site, "acme/wasm").head_manifest("1.0.0")
    site.signed(
        *("release", "adopt", f"{site.base}/wasm@{digest}"),
        *("--name", NAME, "--version", "1.0.0"),
    )
    device = site.device("device")
    assert device.install() == "1.0.0"
    fetched = list(dict(blobs_below(device.staging)).values())
    assert all(data in fetched for data in files.values())


@anywhere
def test_pruned(site: Site) -> None:
    """Old metadata goes; what devices need stays, theirs of long ago included."""
    site.begin()
    site.publish("1.2.0")
    old = site.device("old")
    assert old.install() == "1.2.0"
    for _ in range(4):
        site.signed("repo", "refresh")
    site.publish("1.3.0")
    said = site.vendor_command("repo", "prune", "--keep", "1")["result"]
    assert said
    assert old.install() == "1.3.0"
    assert site.device("new").install("1.2.0") == "1.2.0"


# --- one repository ------------------------------------------------------------------


def repository(site: Site, path: str) -> RegistryRepository:
    """Return a repository of the site's registry."""
    assert site.registry is not None
    reference = RegistryReference.parse(f"oci://{site.registry.host}/{path}")
    return RegistryRepository(reference, network=site.registry.network())


@in_registries
def test_blobs_and_manifests(site: Site) -> None:
    """Pushed, found, read, listed, and pushed again without a byte."""
    target = repository(site, "acme/app")
    data = bytes(range(256)) * 10_000
    what = Descriptor.of(data, "application/wasm")
    assert not target.has_blob(what)
    assert target.put_blob(what, io.BytesIO(data))
    assert target.has_blob(what)
    assert not target.put_blob(what, io.BytesIO(data))
    with target.open_blob(what, start=1_000_000) as stream:
        assert stream.read() == data[1_000_000:]
    target.put_blob(EMPTY, io.BytesIO(b"{}"))
    layers = [Layer(descriptor=what, title="app.wasm")]
    manifest = manifest_bytes(artifact_type="application/wasm", layers=layers)
    assert target.head_manifest("1.0.0") is None
    digest = target.put_manifest(manifest, MANIFEST, tag="1.0.0")
    assert digest == Digest.of(manifest) == target.head_manifest("1.0.0")
    for reference in ("1.0.0", str(digest)):
        assert target.manifest(reference) == (manifest, MANIFEST)
    assert list(target.tags()) == ["1.0.0"]
    other = repository(site, "acme/other")
    assert not other.put_blob(what, io.BytesIO(data), mount_from=["acme/app"])
    with other.open_blob(what) as stream:
        assert stream.read() == data


@in_registries
def test_referrers(site: Site) -> None:
    """By the API where there is one, by the tag where there is none."""
    target = repository(site, "acme/app")
    target.put_blob(EMPTY, io.BytesIO(b"{}"))
    layers = [Layer(descriptor=EMPTY)]
    plain = manifest_bytes(artifact_type="application/wasm", layers=layers)
    subject = Descriptor.of(plain, MANIFEST)
    target.put_manifest(plain, MANIFEST, tag="1.0.0")
    assert target.referrers(subject.digest) == ()
    made = set()
    for number, kind in enumerate(("a/sbom", "a/vex", "a/sbom")):
        data = manifest_bytes(
            artifact_type=kind,
            layers=layers,
            subject=subject,
            annotations={"number": str(number)},
        )
        made.add(target.put_manifest(data, MANIFEST))
    found = target.referrers(subject.digest)
    assert {one.descriptor.digest for one in found} == made
    assert len(target.referrers(subject.digest, artifact_type="a/sbom")) == 2
    assert len(target.referrers(subject.digest, artifact_type="a/other")) == 0


@in_registries
def test_deleted(site: Site) -> None:
    target = repository(site, "acme/app")
    target.put_blob(EMPTY, io.BytesIO(b"{}"))
    data = manifest_bytes(artifact_type="a/x", layers=[Layer(descriptor=EMPTY)])
    digest = target.put_manifest(data, MANIFEST, tag="1.0.0")
    target.delete_manifest(digest)
    assert target.head_manifest("1.0.0") is None
    target.delete_manifest(digest)
