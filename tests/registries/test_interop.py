"""Other clients read what we push, and we read what they push, byte for byte.

Real packages, Helm charts and Compose archives travel through Debian's docker-registry.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from oras.provider import Registry

from margo_supplychain.authoring.release import Release
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import INDEX, MANIFEST, Entry
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_layout import LayoutSource
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.fixtures import (
    copy_package,
    image_index_layout,
    wasm_layout,
    write_layout,
)
from tests.registries.clients import blobs_below, find_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.clients import Client
    from tests.registries.servers import RunningRegistry

TAG: Final = "1.0.0"
CLIENTS: Final = ("oras", "crane", "skopeo")
KINDS: Final = ("package", "compose", "helm", "wasm", "index")


class Artifact(NamedTuple):
    """One artifact in an OCI image layout of its own."""

    layout: Path
    top: Descriptor

    @property
    def blobs(self) -> dict[str, bytes]:
        """Every manifest and blob, by digest."""
        return dict(blobs_below(self.layout))


@pytest.fixture(params=CLIENTS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Client:
    home = tmp_path_factory.mktemp("home")
    return find_client(request.param, home, request.config)


@pytest.fixture(scope="module", params=KINDS)
def artifact(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """A real artifact of each kind."""
    place = tmp_path_factory.mktemp(request.param)
    layout = place / "layout"
    if request.param == "wasm":
        return Artifact(layout, wasm_layout(layout, tag=TAG))
    if request.param == "index":
        return Artifact(layout, image_index_layout(layout, tag=TAG))
    name = "line-analytics" if request.param == "helm" else "pump-monitor"
    package = copy_package(name, place)
    release = Release.from_package(package, publisher="acme", output=place / "dist")
    top = release.artifact
    if request.param != "package":
        top = release.components[0].content
    return alone(release, top, layout)


def alone(release: Release, top: Descriptor, layout: Path) -> Artifact:
    """Copy one artifact of a build into a layout of its own."""

    def read(what: Descriptor) -> bytes:
        with release.open(what) as stream:
            return stream.read()

    found = [read(part.descriptor) for part in walk(top, read)]
    entry = Entry(
        descriptor=top, annotations={"org.opencontainers.image.ref.name": TAG}
    )
    write_layout(layout, found, [entry])
    return Artifact(layout, top)


def repository(registry: RunningRegistry, path: str) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{registry.host}/{path}")
    return RegistryRepository(reference, network=Network())


def push(target: RegistryRepository, artifact: Artifact) -> None:
    """Push it with our client: parts first, the tag last."""
    source = LayoutSource(artifact.layout)

    def read(what: Descriptor) -> bytes:
        with source.blob(what) as stream:
            return stream.read()

    for part in walk(artifact.top, read):
        what = part.descriptor
        if what.media_type in (MANIFEST, INDEX):
            tag = TAG if what == artifact.top else None
            target.put_manifest(read(what), what.media_type, tag=tag)
        else:
            with source.blob(what) as stream:
                target.put_blob(what, stream)


def pull(source: RegistryRepository, to: Path) -> dict[str, bytes]:
    """Pull a tag with our client into a content store; return all of it."""
    data, kind = source.manifest(TAG)
    store = ContentStore.create(to)

    def read(what: Descriptor) -> bytes:
        with source.open_blob(what) as stream:
            store.put(what, stream)
        with store.open_checked(what) as file:
            return file.read()

    for part in walk(Descriptor.of(data, kind), read):
        read(part.descriptor)
    return dict(blobs_below(to))


def path_of(request: pytest.FixtureRequest) -> str:
    """Return a repository name of the test's own."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return f"interop/{name.strip('-').replace('--', '-')}"


def test_they_read_what_we_push(
    artifact: Artifact,
    client: Client,
    open_registry: RunningRegistry,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    path = path_of(request)
    push(repository(open_registry, path), artifact)
    client.pull(f"{open_registry.host}/{path}:{TAG}", tmp_path / "pulled", TAG)
    assert dict(blobs_below(tmp_path / "pulled")) == artifact.blobs


def test_we_read_what_they_push(
    artifact: Artifact,
    client: Client,
    open_registry: RunningRegistry,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    path = path_of(request)
    client.push(artifact.layout, TAG, f"{open_registry.host}/{path}:{TAG}")
    source = repository(open_registry, path)
    # crane wraps the layout's own index around an image index.
    if client.name != "crane" or artifact.top.media_type == MANIFEST:
        assert source.manifest(TAG)[0] == artifact.blobs[str(artifact.top.digest)]
    found = pull(source, tmp_path / "pulled")
    assert artifact.blobs.items() <= found.items()
    assert len(found) <= len(artifact.blobs) + 1


# --- oras and files ------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Some files below `tmp_path/files`."""
    found = {"one.txt": b"one\n", "two.bin": bytes(range(256)) * 4096}
    for name, data in found.items():
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / name).write_bytes(data)
    return found


def titles(source: RegistryRepository) -> Iterator[tuple[str, bytes]]:
    """Yield the named layers of a tag."""
    document: dict[str, Any] = json.loads(source.manifest(TAG)[0])
    for layer in document["layers"]:
        what = Descriptor(
            media_type=layer["mediaType"],
            digest=Digest.parse(layer["digest"]),
            size=layer["size"],
        )
        with source.open_blob(what) as stream:
            data = stream.read()
        assert Digest.of(data) == what.digest
        yield layer["annotations"]["org.opencontainers.image.title"], data


def test_we_read_the_files_that_oras_pushes(
    files: dict[str, bytes],
    open_registry: RunningRegistry,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    oras_cli: Any = find_client("oras", tmp_path, pytestconfig)
    reference = f"{open_registry.host}/interop/files:{TAG}"
    arguments = ["push", "--plain-http", reference, *files]
    oras_cli.run(*arguments, directory=tmp_path / "files")
    assert dict(titles(repository(open_registry, "interop/files"))) == files


def test_we_read_what_oras_attaches(
    files: dict[str, bytes],
    olareg_registry: Any,
    open_registry: RunningRegistry,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    """With the referrers API (olareg) and by the fallback tag (docker-registry)."""
    oras_cli: Any = find_client("oras", tmp_path, pytestconfig)
    with olareg_registry(tmp_path / "olareg") as with_api:
        for registry in (with_api, open_registry):
            reference = f"{registry.host}/interop/attached:{TAG}"
            oras_cli.run(
                *("push", "--plain-http", reference, "one.txt"),
                directory=tmp_path / "files",
            )
            oras_cli.run(
                *("attach", "--plain-http", "--artifact-type", "a/sbom"),
                *(reference, "two.bin"),
                directory=tmp_path / "files",
            )
            source = repository(registry, "interop/attached")
            subject = Digest.of(source.manifest(TAG)[0])
            (found,) = source.referrers(subject, artifact_type="a/sbom")
            data, _ = source.manifest(str(found.descriptor.digest))
            assert json.loads(data)["subject"]["digest"] == str(subject)
            assert source.referrers(subject, artifact_type="a/vex") == ()


def test_oras_discovers_what_we_attach(
    olareg_registry: Any,
    open_registry: RunningRegistry,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    oras_cli: Any = find_client("oras", tmp_path, pytestconfig)
    artifact = Artifact(tmp_path / "layout", wasm_layout(tmp_path / "layout", tag=TAG))
    with olareg_registry(tmp_path / "olareg") as with_api:
        for registry in (with_api, open_registry):
            target = repository(registry, "interop/ours")
            push(target, artifact)
            document = {
                **json.loads(artifact.blobs[str(artifact.top.digest)]),
                "artifactType": "a/sbom",
                "subject": {
                    "mediaType": MANIFEST,
                    "digest": str(artifact.top.digest),
                    "size": artifact.top.size,
                },
            }
            about = target.put_manifest(json.dumps(document).encode(), MANIFEST)
            said = oras_cli.run(
                *("discover", "--plain-http", "--format", "json"),
                f"{registry.host}/interop/ours:{TAG}",
            )
            (found,) = json.loads(said)["referrers"]
            assert found["digest"] == str(about)
            assert found["artifactType"] == "a/sbom"


# --- oras-py -------------------------------------------------------------------------


def test_we_read_what_oras_py_pushes(
    files: dict[str, bytes],
    open_registry: RunningRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path / "files")
    pushing = Registry(hostname=open_registry.host, insecure=True)
    reference = f"{open_registry.host}/interop/oras-py:{TAG}"
    assert pushing.push(reference, files=list(files)).status_code == 201
    assert dict(titles(repository(open_registry, "interop/oras-py"))) == files


def test_oras_py_pulls_what_we_push(
    open_registry: RunningRegistry, tmp_path: Path
) -> None:
    package = copy_package("pump-monitor", tmp_path)
    release = Release.from_package(package, publisher="acme", output=tmp_path / "dist")
    artifact = alone(release, release.artifact, tmp_path / "layout")
    push(repository(open_registry, "interop/for-oras-py"), artifact)
    pulling = Registry(hostname=open_registry.host, insecure=True)
    reference = f"{open_registry.host}/interop/for-oras-py:{TAG}"
    pulling.pull(reference, outdir=str(tmp_path / "out"))
    assert (tmp_path / "out" / "margo.yaml").read_bytes() == (
        package / "margo.yaml"
    ).read_bytes()
