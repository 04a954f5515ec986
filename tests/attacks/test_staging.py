"""Somebody prepared, or changes, the directory that content is fetched into."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    LengthMismatchError,
    OciFormatError,
    StorageError,
    UnknownTargetError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.storage.content_store import blob_path
from tests.attacks.standing import require_true_names, stands
from tests.world import MemorySource, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.verify.results import VerifiedContent
    from tests.world import Device

CONTENT = b"the honest module"
LAYER = Digest.of(CONTENT)


def ready(tmp_path: Path) -> tuple[World, Device, Path]:
    """A device that verified a release, and where its layer will lie."""
    world = World()
    world.release("1.0.0", content=CONTENT)
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane
    return world, device, device.staging / "blobs" / "sha256" / LAYER.hex


def read(content: VerifiedContent, digest: Digest = LAYER) -> bytes:
    with content.open(digest) as stream:
        return stream.read()


@pytest.mark.parametrize(
    "prepared",
    [b"x" * len(CONTENT), b"", CONTENT + b"\n"],
    ids=["bytes", "cut", "long"],
)
def test_prepared_blob(tmp_path: Path, prepared: bytes) -> None:
    """A file of the right name, with other bytes, is replaced by the signed ones."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(prepared)
    assert read(device.fetch()) == CONTENT
    require_true_names(device)


def test_prepared_blob_that_is_right(tmp_path: Path) -> None:
    """What lies there already and is right is hashed, and not asked for again."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert read(device.fetch()) == CONTENT
    assert str(LAYER) not in device.source.asked


def test_prepared_symbolic_link(tmp_path: Path) -> None:
    """A link to a file of other bytes is replaced, and the file left alone."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"v" * len(CONTENT))
    path.symlink_to(victim)
    content = device.fetch()
    assert victim.read_bytes() == b"v" * len(CONTENT)
    assert not path.is_symlink()
    assert read(content) == CONTENT


def test_prepared_link_to_nowhere(tmp_path: Path) -> None:
    """A dangling link is replaced, and nothing is written where it points."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    assert read(device.fetch()) == CONTENT
    assert not (tmp_path / "elsewhere").exists()


def test_prepared_link_in_the_place_of_blobs(tmp_path: Path) -> None:
    """Blobs land elsewhere then; they are hashed, and hashed again when opened."""
    _, device, path = ready(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sha256").mkdir(parents=True)
    (elsewhere / "sha256" / LAYER.hex).write_bytes(b"x" * len(CONTENT))
    device.staging.mkdir()
    (device.staging / "blobs").symlink_to(elsewhere)
    content = device.fetch()
    assert read(content) == CONTENT
    path.write_bytes(b"y" * len(CONTENT))
    with pytest.raises(DigestMismatchError, match="has digest"):
        content.open(LAYER)


def test_prepared_pipe(tmp_path: Path) -> None:
    """It is neither waited on nor taken for content, but replaced."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert read(device.fetch()) == CONTENT


def test_prepared_hard_link(tmp_path: Path) -> None:
    """The right bytes under two names: whoever has the other could change them."""
    _, device, path = ready(tmp_path)
    path.parent.mkdir(parents=True)
    other = tmp_path / "other"
    other.write_bytes(CONTENT)
    os.link(other, path)
    content = device.fetch()
    other.write_bytes(b"y" * len(CONTENT))
    assert read(content) == CONTENT


def test_prepared_directory(tmp_path: Path) -> None:
    """It is not taken for content; the device says what is in the way."""
    _, device, path = ready(tmp_path)
    path.mkdir(parents=True)
    before = stands(device)
    with pytest.raises(StorageError, match="is not a regular file") as caught:
        device.fetch()
    assert caught.value.code == "storage"
    assert stands(device) == before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        ("index.json", b'{"schemaVersion":2,"manifests":"none"}'),
    ],
)
def test_prepared_layout(tmp_path: Path, name: str, data: bytes) -> None:
    """A directory that is another kind of layout is not fetched into."""
    _, device, _ = ready(tmp_path)
    device.staging.mkdir()
    (device.staging / name).write_bytes(data)
    memory = device.memory
    with pytest.raises(OciFormatError) as caught:
        device.fetch()
    assert caught.value.code == "oci-format"
    assert device.memory == memory


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (b"x" * len(CONTENT), DigestMismatchError),
        (CONTENT[:-1], LengthMismatchError),
        (CONTENT + b"x", LengthMismatchError),
    ],
    ids=["bytes", "cut", "long"],
)
def test_content_changed_between_fetch_and_use(
    tmp_path: Path, change: bytes, kind: type[Exception]
) -> None:
    """Every opening hashes the file again, and gives the file that it hashed."""
    _, device, path = ready(tmp_path)
    content = device.fetch()
    assert read(content) == CONTENT  # sane
    path.write_bytes(change)
    with pytest.raises(kind):
        content.open(LAYER)
    path.unlink()
    with pytest.raises(StorageError, match="does not hold"):
        content.open(LAYER)


def test_file_replaced_after_it_was_opened(tmp_path: Path) -> None:
    """The stream reads the very file that was hashed, whatever gets its name."""
    _, device, path = ready(tmp_path)
    content = device.fetch()
    with content.open(LAYER) as stream:
        other = path.with_name("other")
        other.write_bytes(b"x" * len(CONTENT))
        other.replace(path)
        assert stream.read() == CONTENT


def test_open_of_something_else(tmp_path: Path) -> None:
    """A blob of another release in the same directory is no part of this one."""
    world, device, _ = ready(tmp_path)
    device.fetch()
    world.release("2.0.0", content=b"another module")
    device.source.files = world.publish()
    content = device.fetch()
    assert read(content, Digest.of(b"another module")) == b"another module"
    with pytest.raises(UnknownTargetError, match="is not part of acme/pump") as caught:
        content.open(LAYER)
    assert caught.value.code == "unknown-target"


class Accomplice(MemorySource):
    """Puts another manifest into staging while the right one is asked for."""

    def __init__(self, device: Device, right: Digest, false: bytes) -> None:
        super().__init__(device.source.files.copy())
        self._device = device
        self._right = right
        self._false = false

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        path = blob_path(self._device.staging, self._right)
        if what.digest == self._right:
            path.write_bytes(self._false)
        else:
            path.unlink(missing_ok=True)
            path.write_bytes(self.files.blobs[str(self._right)])
        with super().blob(what, start=start, tick=tick) as stream:
            yield stream


def test_manifest_swapped_while_it_is_fetched(tmp_path: Path) -> None:
    """Of the same size, as if the fetch were done, and put back later."""
    world, device, _ = ready(tmp_path)
    manifest = device.verify().manifest.digest
    right = device.source.files.blobs[str(manifest)]
    evil = world.add_blob(b"EVIL", "a/b").digest
    document = json.loads(right)
    document["layers"][0].update(digest=str(evil), size=4, mediaType="a/b")
    false = json.dumps(document, separators=(",", ":")).encode().ljust(len(right))
    assert len(false) == len(right)
    source = Accomplice(device, manifest, false)
    source.files.blobs[str(evil)] = b"EVIL"
    device.contents = [source]

    content = device.fetch()
    assert evil not in content.digests
    with pytest.raises(UnknownTargetError, match="is not part of"):
        content.open(evil)
