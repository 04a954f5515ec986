"""A plant whose repository, inbox and vendors' content lie in a real registry."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run
from tests.cli.vendor import Vendor
from tests.registries.clients import blobs_below
from tests.registries.servers import docker_registry
from tests.registries.site import Site, must

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.running import Ran
    from tests.registries.servers import DockerRegistry

NAME = "acme/pump-monitor"


class Plant(Site):
    """An operator with a repository of the profile standard, and the vendor acme."""

    def begin(self) -> None:
        """Make the operator's repository in the registry, and the vendor's place."""
        for name in ("root.key", "targets.key", "own.key", "ci.key"):
            self.vendor.key(name)
        self.vendor.must(
            *("repo", "init", "trust", "--profile", "standard", "--publisher", "own"),
            *("--root-key", "root.key", "--targets-key", "targets.key"),
            *("--publisher-key", "own.key", "--online-key", "ci.key"),
        )
        settings = self.place / "margo-supplychain.toml"
        settings.write_text(settings.read_text() + self.tables)
        self.acme = Vendor(self.place / "acme", self.vendor.secret)
        self.acme.place.mkdir()
        for name in ("offline", "release"):
            self.vendor.key(f"acme/{name}.key")
        self.vendor.must(
            *("publisher", "add", "acme", "--publisher-key", "acme/offline.pub")
        )
        self.trust = f"oci://{self.host}/plant/trust"
        must(run("repo", "push", self.trust))
        shutil.copy(self.place / "trust/metadata/1.root.json", self.place / "root.json")
        text = (
            f'repo = "{self.trust}"\nroot = "../root.json"\ninbox = "{self.inbox}"\n'
            'publisher = "acme"\npublisher-key = "offline.key"\n'
            'release-key = "release.key"\n'
        )
        (self.acme.place / "margo-supplychain.toml").write_text(text + self.tables)

    @property
    def tables(self) -> str:
        """This machine is asked only because somebody says so."""
        return f'\n[registry."{self.host}"]\n'

    @property
    def host(self) -> str:
        assert self.registry is not None
        return self.registry.host

    @property
    def inbox(self) -> str:
        return f"oci://{self.host}/plant/inbox"

    def hand_in(self, patch: pytest.MonkeyPatch, *arguments: str) -> Ran:
        """Run a command where the vendor works, with his keys alone."""
        with patch.context() as at:
            at.chdir(self.acme.place)
            return must(self.acme.sign(*arguments))

    def accept(self) -> Ran:
        """Let the operator take in what waits, with the online key alone."""
        return must(
            self.vendor.sign(
                *("repo", "accept", self.inbox, "--repo", self.trust),
                *("--root", str(self.place / "root.json"), "--key", "ci.key"),
            )
        )

    def build_at(self, version: str, *more: str) -> str:
        """Build a release of the vendor's package."""
        package = self.place / "packages" / "pump-monitor"
        if not package.exists():
            self.package()
        file = package / "margo.yaml"
        text = file.read_text(encoding="utf-8")
        old = text.partition('\n  version: "')[2].partition('"')[0]
        text = text.replace(f'version: "{old}"', f'version: "{version}"')
        file.write_text(text, encoding="utf-8")
        dist = str(self.place / f"dist-{version}")
        must(
            run(
                *("release", "build", str(package), "--output", dist),
                *("--publisher", "acme", *more),
            )
        )
        return dist


@pytest.fixture(params=["none", "basic"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry", auth=request.param) as registry:
        yield registry


@pytest.fixture
def plant(
    registry: DockerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Plant:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("DOCKER_CONFIG", str(registry.docker_config.parent))
    found = Plant(tmp_path / "work", registry)
    found.begin()
    return found


def test_vendor_hands_in_through_a_registry(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.hand_in(
        monkeypatch,
        *("app", "add", NAME, "--release-key", "release.pub"),
        *("--submit", plant.inbox),
    )
    dist = plant.build_at(
        "1.2.0", "--location", f"oci://{plant.host}/acme/pump-monitor"
    )
    ran = plant.hand_in(monkeypatch, "release", "submit", dist)
    assert "0 blobs of it come along" in ran.out
    assert "not taken yet" in ran.err
    plant.accept()
    device = plant.device("device")
    assert device.install("1.2.0") == "1.2.0"
    assert dict(blobs_below(device.staging))
    # What is taken is gone, where the registry deletes.
    ran = plant.accept()
    assert "nothing" in ran.out


def test_content_without_a_registry(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository in a registry takes no content; the vendor hears so at once."""
    plant.hand_in(
        monkeypatch,
        *("app", "add", NAME, "--release-key", "release.pub"),
        *("--submit", plant.inbox),
    )
    dist = plant.build_at("1.2.0")
    monkeypatch.chdir(plant.acme.place)
    ran = plant.acme.sign("release", "submit", dist)
    assert ran.status == 2
    assert "names no registry with its content" in ran.err
    assert "--location oci://HOST/PATH" in ran.err


def test_directory_of_the_operator_and_registry_of_the_vendor(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content stays where the vendor pushed it, and devices find it there."""
    plant.trust = str(plant.place / "trust")
    settings = plant.acme.place / "margo-supplychain.toml"
    text = settings.read_text().replace(f"oci://{plant.host}/plant/trust", plant.trust)
    settings.write_text(text)
    plant.hand_in(
        monkeypatch,
        *("app", "add", NAME, "--release-key", "release.pub"),
        *("--submit", plant.inbox),
    )
    location = f"oci://{plant.host}/acme/pump-monitor"
    dist = plant.build_at("1.2.0", "--location", location)
    plant.hand_in(monkeypatch, "release", "submit", dist)
    plant.accept()
    device = plant.device("device")
    assert device.install("1.2.0") == "1.2.0"
    must(run("repo", "check", "--repo", plant.trust))
    # A second release of the same content is pushed once.
    dist = plant.build_at("1.3.0", "--location", location)
    assert "already there" in plant.hand_in(monkeypatch, "release", "submit", dist).out
    plant.accept()
    assert device.install("1.3.0") == "1.3.0"
