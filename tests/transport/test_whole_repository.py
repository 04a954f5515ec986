"""A whole trust repository, byte for byte, in each kind of place that has tags."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.testing import TinyRepository, tiny_repository
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.world.device import SIGNED
from tests.world.media import put_files
from tests.world.sources import Files

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.transport.protocols import Source


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRepository:
    tiny = tiny_repository(tmp_path_factory.mktemp("vendor"))
    tiny.publish("1.1.0", b"pump monitor 1.1.0")
    return tiny


def files_of(tiny: TinyRepository) -> Files:
    """Return what a web server would serve."""
    found = Files()
    for path in (tiny.directory / "metadata").iterdir():
        found.metadata[path.name] = path.read_bytes()
    for path in (tiny.directory / "blobs" / "sha256").iterdir():
        found.blobs[f"sha256:{path.name}"] = path.read_bytes()
    for path in (tiny.directory / "targets").rglob("*"):
        if path.is_file():
            sha256, _, name = path.name.partition(".")
            folder = path.parent.relative_to(tiny.directory / "targets")
            found.targets[f"{folder}/{name}", sha256] = path.read_bytes()
    assert len(found.metadata) > 5
    assert len(found.targets) > 2
    return found


@pytest.mark.parametrize("kind", ["oci-layout", "oci-archive", "file"])
def test_a_device_verifies_a_copy(
    tiny: TinyRepository, tmp_path: Path, kind: str
) -> None:
    files = files_of(tiny)
    url = f"{kind}:{tmp_path}/copy"
    put_files(files, url)
    put_files(files, url)  # once more changes nothing
    source = open_source(url)
    assert set(open_sink(url).metadata_files()) == set(files.metadata)
    same_bytes(source, files)
    store = TrustStore.create(
        tmp_path / "state", root=tiny.root, publishers=frozenset({tiny.publisher})
    )
    verifier = Verifier(
        store=store,
        source=source,
        content=FixedContent([source]),
        policy=Policy.from_toml(SIGNED),
    )
    release = verifier.verify(tiny.name, Pin.parse_argument("*"))
    assert str(release.version) == "1.1.0"
    content = verifier.fetch(release, tmp_path / "staging")
    assert set(content.digests) >= {release.manifest.digest}


def same_bytes(source: Source, files: Files) -> None:
    """Every file is what it was: every TUF client reads them as before."""
    for name, data in files.metadata.items():
        assert source.metadata(name, limit=len(data)) == data
    for (path, _), data in files.targets.items():
        what = Descriptor.of(data, "application/json")
        with source.target(TargetPath(path), what) as stream:
            assert stream.read() == data
    for data in files.blobs.values():
        with source.blob(Descriptor.of(data, "application/octet-stream")) as stream:
            assert stream.read() == data


def skopeo_copy(source: str, target: str) -> None:
    """Let skopeo copy one manifest."""
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    command = [program, "copy", "--insecure-policy", "-q", source, target]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_skopeo_takes_what_is_written(tiny: TinyRepository, tmp_path: Path) -> None:
    """From a layout and from a tar, each file under its tag."""
    files = files_of(tiny)
    for ours, theirs in (("oci-layout", "oci"), ("oci-archive", "oci-archive")):
        put_files(files, f"{ours}:{tmp_path}/{ours}")
        out = tmp_path / f"from-{ours}"
        for name, data in files.metadata.items():
            tag = name.removesuffix(".json")
            skopeo_copy(f"{theirs}:{tmp_path}/{ours}:{tag}", f"oci:{out}:{tag}")
            copied = open_source(f"oci-layout:{out}").metadata(name, limit=len(data))
            assert copied == data


def test_what_skopeo_wrote_is_taken(tiny: TinyRepository, tmp_path: Path) -> None:
    files = files_of(tiny)
    put_files(files, f"oci-layout:{tmp_path}/layout")
    data = files.metadata["timestamp.json"]
    skopeo_copy(
        f"oci:{tmp_path}/layout:timestamp", f"oci-archive:{tmp_path}/theirs:timestamp"
    )
    source = open_source(tmp_path / "theirs")
    assert source.metadata("timestamp.json", limit=len(data)) == data
