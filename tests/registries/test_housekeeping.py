"""What a registry's night shift takes away: never what signed metadata names.

docker-registry's garbage collector removes each manifest that has no tag (those that a
tagged index lists as well) and then each blob that no manifest names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.cli.running import run
from tests.cli.vendor import NAME
from tests.fixtures import image_index_layout, wasm_layout
from tests.registries.clients import blobs_below
from tests.registries.servers import docker_registry
from tests.registries.site import Site, must, push_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.servers import DockerRegistry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def site(
    registry: DockerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """A vendor whose repository lies in that registry."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config.parent))
    site = Site(tmp_path / "work", registry)
    site.begin()
    return site


def collect(registry: DockerRegistry) -> None:
    """Run the collector until it finds nothing any more."""
    for _ in range(3):
        registry.collect_garbage()


def whole(site: Site, name: str, found: dict[str, bytes], version: str) -> None:
    """A new device gets the release, every byte of it."""
    device = site.device(name)
    assert device.install(version) == version
    assert found.items() <= dict(blobs_below(device.staging)).items()


def test_packages_and_their_components(registry: DockerRegistry, site: Site) -> None:
    for version in ("1.2.0", "1.3.0"):
        site.publish(version)
    collect(registry)
    for version in ("1.2.0", "1.3.0"):
        built = dict(blobs_below(site.place / f"dist-{version}"))
        whole(site, f"device-{version}", built, version)
    site.vendor_command("repo", "check")
    site.publish("1.4.0")
    assert site.device("later").install() == "1.4.0"


@pytest.mark.parametrize("make", [wasm_layout, image_index_layout])
def test_artifact_of_a_local_repository_that_is_pushed(
    make: Any, registry: DockerRegistry, site: Site
) -> None:
    """An image index holds manifests that no tag names, unless somebody gives them
    one."""
    what = make(site.place / "layout", tag="2.0.0")
    site.vendor.must(
        *("release", "adopt", f"layout@{what.digest}", "--repo", "trust"),
        *("--name", NAME, "--version", "2.0.0"),
    )
    must(run("repo", "push", site.trust, "--repo", "trust"))
    found = dict(blobs_below(site.place / "layout"))
    whole(site, "before", found, "2.0.0")
    collect(registry)
    whole(site, "after", found, "2.0.0")
    site.vendor_command("repo", "check")


@pytest.mark.parametrize("make", [wasm_layout, image_index_layout])
def test_artifact_that_is_mirrored(
    make: Any, registry: DockerRegistry, site: Site, tmp_path: Path
) -> None:
    what = make(site.place / "layout", tag="2.0.0")
    site.vendor.must(
        *("release", "adopt", f"layout@{what.digest}", "--repo", "trust"),
        *("--name", NAME, "--version", "2.0.0"),
    )
    found = dict(blobs_below(site.place / "layout"))
    with docker_registry(tmp_path / "mirror") as mirror:
        target = f"oci://{mirror.host}/acme/trust"
        ran = must(
            run(
                *("--format", "json", "repo", "mirror", "trust", target),
                *("--root", "root.json"),
            )
        )
        collect(mirror)
        mirrors = ran.json["result"]["mirrors"]
        device = site.device_of_mirror("device", target, mirrors)
        assert device.install() == "2.0.0"
        assert found.items() <= dict(blobs_below(device.staging)).items()


@pytest.mark.parametrize("make", [wasm_layout, image_index_layout])
def test_what_was_adopted_where_it_lies_is_lost_and_put_back(
    make: Any, registry: DockerRegistry, site: Site
) -> None:
    """Nobody tags it for its owner; but the loss is noticed, and mended from a copy."""
    what = make(site.place / "layout", tag="2.0.0")
    found = dict(blobs_below(site.place / "layout"))
    reference = RegistryReference.parse(f"oci://{registry.host}/acme/images")
    target = RegistryRepository(reference, network=registry.network())
    push_all(target, found, what)
    site.signed(
        *("release", "adopt", f"{site.base}/images@{what.digest}"),
        *("--name", NAME, "--version", "2.0.0"),
    )
    whole(site, "before", found, "2.0.0")
    copy = site.mirror("copy")
    assert copy["releases"]["withContent"] == 1
    collect(registry)
    if make is wasm_layout:
        # Its one manifest has the version's tag.
        whole(site, "after", found, "2.0.0")
        site.vendor_command("repo", "check")
        return
    lost = site.device("lost").fetch()
    assert lost.status == 4
    check = ("repo", "check", "--repo", site.trust, "--root", "root.json")
    ran = run("--format", "json", *check)
    assert ran.status in (3, 4)
    must(run(*check, "--repair", "--from", "copy"))
    must(run(*check))
    whole(site, "after", found, "2.0.0")
