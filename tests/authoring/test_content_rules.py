"""What no device would take is not published, whoever built or adopted it."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.authoring.publish import publish
from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import (
    BudgetError,
    DeploymentError,
    MalformedError,
    RefusedError,
    SupplyChainError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.verify.content_checks import check_stored
from margo_supplychain.verify.limits import Limits
from tests.authoring.trust import NOW, PUMP, Vendor, key
from tests.fixtures import copy_package, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GENERIC: Final = "application/vnd.example.thing"


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return gzip.compress(data.getvalue(), mtime=0)


def thing(place: Path, layers: list[oci.Layer], blobs: list[bytes]) -> Release:
    """Adopt an artifact of these layers as acme/pump-monitor 1.0.0."""
    manifest = oci.manifest_bytes(artifact_type=GENERIC, layers=layers)
    what = Descriptor.of(manifest, oci.MANIFEST)
    write_layout(place, [*blobs, manifest, oci.EMPTY_BYTES], [])
    return Release.from_artifact(
        DirectorySource(place),
        str(what.digest),
        name=PUMP,
        version=Version.parse("1.0.0"),
    )


def evil_archive(place: Path) -> Release:
    data = archive("../../etc/passwd")
    layer = oci.Layer(descriptor=Descriptor.of(data, "application/gzip"))
    return thing(place, [layer], [data])


def no_archive(place: Path) -> Release:
    data = b"junk"
    layer = oci.Layer(descriptor=Descriptor.of(data, "application/vnd.x.tar+gzip"))
    return thing(place, [layer], [data])


@pytest.mark.parametrize("make", [evil_archive, no_archive])
def test_archives_that_devices_refuse_are_not_published(
    make: Callable[[Path], Release], vendor: Vendor
) -> None:
    vendor.create_with_pump()
    release = make(vendor.directory / "layout")
    before = vendor.files()
    with pytest.raises(SupplyChainError) as caught:
        publish(vendor.repository, [release], keys=[key("ci")], clock=vendor.clock)
    assert caught.value.exit_status in {2, 3}
    assert "nothing was published" in str(caught.value.hint)
    assert vendor.files().keys() - {"oci-layout", "index.json"} == before.keys() - {
        "oci-layout",
        "index.json",
    }


def test_what_was_published_anyway_is_found_by_check(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.create_with_pump()
    release = evil_archive(vendor.directory / "layout")
    with monkeypatch.context() as patch:
        patch.setattr(
            "margo_supplychain.authoring.directory_place.check_stored",
            lambda *_one, **_two: None,
        )
        publish(vendor.repository, [release], keys=[key("ci")], clock=vendor.clock)
    report = vendor.repository.check(clock=vendor.clock)
    assert report.verdict == "rejected"
    assert len(report.violations) == 1


def test_a_package_that_says_other_than_its_record(vendor: Vendor) -> None:
    vendor.create_with_pump()
    package = copy_package("pump-monitor", vendor.directory)
    release = Release.from_package(
        package, publisher="acme", output=vendor.directory / "dist"
    )
    lie = replace(release, application_version="9.9")
    with pytest.raises(DeploymentError, match=r"metadata\.version"):
        publish(vendor.repository, [lie], keys=[key("ci")], clock=vendor.clock)
    lie = replace(release, components=(), images=())
    with pytest.raises(DeploymentError, match="calls itself complete"):
        publish(vendor.repository, [lie], keys=[key("ci")], clock=vendor.clock)
    publish(vendor.repository, [release], keys=[key("ci")], clock=vendor.clock)
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_components_elsewhere_are_counted(vendor: Vendor) -> None:
    vendor.create_with_pump()
    package = copy_package("pump-monitor", vendor.directory)
    release = Release.from_package(
        package, publisher="acme", output=vendor.directory / "dist"
    )
    away = release.components[0].content.digest
    apart = replace(release, elsewhere=frozenset({away}))
    done = publish(vendor.repository, [apart], keys=[key("ci")], clock=vendor.clock)
    assert (
        "names 1 components that are not here, and no --location" in done.warnings[-1]
    )
    report = vendor.repository.check(clock=vendor.clock)
    assert report.verdict == "verified"
    assert report.steps[-1].facts["components elsewhere"] == 1


def test_stored_content_within_limits(vendor: Vendor) -> None:
    release = vendor.release("1.0.0")
    store = vendor.directory / "built"
    record = release.record(NOW)
    check_stored(record, ContentStore(store), limits=Limits())
    for limits in (Limits(blobs=2), Limits(content=10)):
        with pytest.raises(BudgetError, match="the release has 3 blobs"):
            check_stored(record, ContentStore(store), limits=limits)


def test_one_blob_of_two_sizes(vendor: Vendor) -> None:
    package = copy_package("pump-monitor", vendor.directory)
    release = Release.from_package(
        package, publisher="acme", output=vendor.directory / "dist"
    )
    first, *rest = release.components
    what = first.content
    other = Descriptor(
        media_type="text/plain", digest=release.artifact.digest, size=what.size + 1
    )
    lie = replace(release, components=(replace(first, content=other), *rest))
    with pytest.raises(MalformedError, match="has two sizes at once"):
        check_stored(
            lie.record(NOW), ContentStore(vendor.directory / "dist"), limits=Limits()
        )


def test_one_package_has_one_version(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    again = vendor.release("1.0.1", f"{PUMP} 1.0.0".encode())
    with pytest.raises(RefusedError, match=r"1\.0\.1 has the same bytes as 1\.0\.0"):
        publish(vendor.repository, [again], keys=[key("ci")], clock=vendor.clock)
