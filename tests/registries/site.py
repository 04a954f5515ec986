"""A vendor and devices at the command line, around one place that all of them share.

The place is a registry of any kind, or a directory with an OCI image layout.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import INDEX, MANIFEST
from tests.cli.running import PASSPHRASE, Ran, run
from tests.cli.vendor import NAME, Vendor
from tests.fixtures import copy_package
from tests.registries.servers import docker_registry, olareg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from margo_supplychain.transport.oci_registry import RegistryRepository
    from tests.registries.servers import RunningRegistry

KINDS: Final = (
    "docker-registry",
    "docker-registry with a login",
    "docker-registry with tokens",
    "docker-registry with client certificates",
    "olareg",
    "olareg without referrers",
    "layout",
)
_DOCKER: Final[dict[str, dict[str, Any]]] = {
    "docker-registry": {},
    "docker-registry with a login": {"auth": "basic"},
    "docker-registry with tokens": {"auth": "token"},
    "docker-registry with client certificates": {"tls": "mutual"},
}
_HOST: Final = "registry.example"


class Site:
    """A vendor who works in `place`, and whose trust repository is `trust`.

    Args:
        registry: None for a layout.
    """

    def __init__(self, place: Path, registry: RunningRegistry | None) -> None:
        self.place = place
        self.registry = registry
        self.vendor = Vendor(place, str(place / "secret"))
        (place / "secret").write_text(f"{PASSPHRASE}\n", encoding="utf-8")
        (place / "secret").chmod(0o600)
        # The URL of a proxy, and the authority that it signs with.
        self.proxy: tuple[str, Path] | None = None
        self.base = (
            f"oci-layout:{place / 'shelf'}"
            if registry is None
            else f"oci://{registry.host}/acme"
        )
        self.trust = self.base if registry is None else f"{self.base}/trust"

    @property
    def tables(self) -> str:
        """The tables that devices and authors need in their settings."""
        if self.registry is None:
            return (
                f'\n[mirrors]\n"oci://{_HOST}/acme" = ["oci-layout:shelf"]\n'
                # From the directory of the settings.
            ).replace("oci-layout:shelf", f"oci-layout:{self.place / 'shelf'}")
        if self.registry.authority is None:
            return ""
        lines = [f'\n[registry."{self.registry.host}"]']
        if self.proxy is None:
            lines.append(f'ca_file = "{self.registry.authority.file}"')
        else:
            lines += [f'proxy = "{self.proxy[0]}"', f'ca_file = "{self.proxy[1]}"']
        if self.registry.client is not None:
            lines.append(f'certificate = "{self.registry.client.certificate}"')
            lines.append(f'private_key = "{self.registry.client.key}"')
        return "\n".join(lines) + "\n"

    # --- the vendor ------------------------------------------------------------------

    def begin(self) -> None:
        """Make a repository on disk, and bring it to the place; it is edited there."""
        self.vendor.application()
        settings = self.place / "margo-supplychain.toml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text + self.tables, encoding="utf-8")
        must(run("repo", "push", self.trust))
        shutil.copy(self.place / "trust/metadata/1.root.json", self.place / "root.json")

    def package(self, name: str = "pump-monitor") -> Path:
        """Return a package whose components lie in this place's registry."""
        directory = copy_package(name, self.place / "packages")
        if self.registry is not None:
            file = directory / "margo.yaml"
            text = file.read_text(encoding="utf-8")
            host = self.registry.host
            file.write_text(text.replace(_HOST, host), encoding="utf-8")
        return directory

    def build(self, version: str) -> str:
        """Build a release; return its directory."""
        directory = self.place / "packages" / "pump-monitor"
        if not directory.exists():
            self.package()
        file = directory / "margo.yaml"
        text = file.read_text(encoding="utf-8")
        old = text.partition('\n  version: "')[2].partition('"')[0]
        text = text.replace(f'version: "{old}"', f'version: "{version}"')
        file.write_text(text, encoding="utf-8")
        dist = str(self.place / f"dist-{version}")
        must(run("release", "build", str(directory), "--output", dist))
        return dist

    def publish(self, version: str) -> dict[str, Any]:
        """Build a release and publish it there; return the command's document."""
        self.build(version)
        return must(self.try_to_publish(version)).json

    def try_to_publish(self, version: str) -> Ran:
        """Publish what was built."""
        dist = str(self.place / f"dist-{version}")
        return self.vendor.sign(
            *("--format", "json", "release", "publish", dist, self.trust),
            *self._root,
        )

    def signed(self, *arguments: str) -> dict[str, Any]:
        """Run a command that opens keys, on the repository where it lies now."""
        place = ("--repo", self.trust)
        ran = self.vendor.sign("--format", "json", *arguments, *place, *self._root)
        return must(ran).json

    def vendor_command(self, *arguments: str) -> dict[str, Any]:
        """Likewise, a command that needs no key."""
        place = ("--repo", self.trust)
        return must(run("--format", "json", *arguments, *place, *self._root)).json

    @property
    def _root(self) -> tuple[str, ...]:
        return ("--root", str(self.place / "root.json"))

    def mirror(self, target: str) -> dict[str, Any]:
        """Copy the repository with all content; return the command's result."""
        ran = run("--format", "json", "repo", "mirror", self.trust, target, *self._root)
        result = must(ran).json["result"]
        assert isinstance(result, dict)
        return result

    # --- devices ---------------------------------------------------------------------

    def device(self, name: str) -> Device:
        """Return a new device that asks this place."""
        return self._device(name, self.trust, self.tables)

    def device_of_mirror(
        self, name: str, target: str, mirrors: dict[str, list[str]]
    ) -> Device:
        """Return a new device that asks a mirror alone, as `repo mirror` says how."""
        # A list of strings is written alike in JSON and TOML.
        lines = [f'"{prefix}" = {json.dumps(at)}' for prefix, at in mirrors.items()]
        access = self.tables if self.registry is not None else ""
        return self._device(name, target, "\n".join(["[mirrors]", *lines, access]))

    def _device(self, name: str, source: str, tables: str) -> Device:
        device = Device(self, self.place / name)
        must(
            run(
                *("device", "init", "--root", str(self.place / "root.json")),
                *("--source", source, "--publisher", "acme"),
                *("--state", str(device.state)),
            )
        )
        settings = device.state / "device.toml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(f"{text}\n{tables}", encoding="utf-8")
        return device


class Device:
    """A device at the command line."""

    def __init__(self, site: Site, state: Path) -> None:
        self.site = site
        self.state = state
        self.staging = state.with_name(f"{state.name}-staging")

    def verify(self, pin: str = "*") -> Ran:
        return self._run("verify", NAME, "--pin", pin)

    def fetch(self, pin: str = "*") -> Ran:
        return self._run("fetch", NAME, "--pin", pin, "--to", str(self.staging))

    def install(self, pin: str = "*") -> str:
        """Verify and fetch; return the version."""
        version = must(self.verify(pin)).json["result"]["version"]
        must(self.fetch(pin))
        assert isinstance(version, str)
        return version

    def _run(self, command: str, *more: str) -> Ran:
        state = ("--state", str(self.state))
        return run("--format", "json", "device", command, *more, *state)


def must(ran: Ran) -> Ran:
    """Demand that a command worked."""
    assert ran.status == 0, f"{ran.err}\n{ran.out}"
    return ran


@contextlib.contextmanager
def site_of(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    olareg_or_skip: Callable[[], object],
) -> Iterator[Site]:
    """Run what `kind` needs, and work in a directory of its own."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    with contextlib.ExitStack() as stack:
        registry: RunningRegistry | None = None
        if kind in _DOCKER:
            running = docker_registry(tmp_path / "registry", **_DOCKER[kind])
            registry = stack.enter_context(running)
        elif kind != "layout":
            olareg_or_skip()
            with_api = "without" not in kind
            registry = stack.enter_context(
                olareg(tmp_path / "registry", referrers=with_api)
            )
        if registry is not None:
            config = registry.docker_config
            monkeypatch.setenv("DOCKER_CONFIG", str(config.parent))
        yield Site(place, registry)


def push_all(
    target: RegistryRepository, found: dict[str, bytes], top: Descriptor
) -> None:
    """Push an index of manifests of blobs."""
    kinds = {}
    for digest, data in found.items():
        try:
            document = json.loads(data)
        except ValueError:
            document = {}
        kinds[digest] = document.get("mediaType", "")
    for kind in ("", MANIFEST, INDEX):
        for digest, data in found.items():
            if kinds[digest] != kind:
                continue
            if not kind:
                what = Descriptor.of(data, "application/octet-stream")
                target.put_blob(what, io.BytesIO(data))
            else:
                tag = "2.0.0" if digest == str(top.digest) else None
                target.put_manifest(data, kind, tag=tag)
