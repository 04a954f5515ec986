"""Downloads that break off, race, or leave something out: what counts is whole."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    StorageError,
    UnknownTargetError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.storage.parts import part_path
from tests.attacks.packages import artifact
from tests.attacks.standing import offered, refused, require_true_names
from tests.world import Device, MemorySource, World
from tests.world.repository import WASM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


def with_layers(tmp_path: Path, *layers: bytes) -> tuple[Device, list[Descriptor]]:
    """A device that runs 1.0.0, and 2.0.0 of these layers."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    made = artifact(world, [(WASM, None, data) for data in layers])
    world.release("2.0.0", artifact=made)
    device.source.files = world.publish()
    device.verify()
    return device, [Descriptor.of(data, WASM) for data in layers]


class Breaking(MemorySource):
    """Gives so much of a blob, and then no more."""

    def __init__(self, device: Device, what: Descriptor, data: bytes) -> None:
        super().__init__(device.source.files)
        self.what = what
        self.data = data

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        with super().blob(what, start=start, tick=tick) as stream:
            if what.digest == self.what.digest:
                yield Cut(self.data[start:])  # type: ignore[misc]  # as much as is read
            else:
                yield stream


class Cut:
    """A stream that breaks off behind its data."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        if not piece:
            raise FetchError("it broke off", url="memory:")
        return piece


def broken(device: Device, what: Descriptor, data: bytes) -> Path:
    """Fetch from a source that gives `data` and breaks off; return the part."""
    device.contents = [Breaking(device, what, data)]
    with refused(device, FetchError, "fetch", match="it broke off"):
        device.fetch()
    device.contents = [device.source]
    device.source.asked.clear()
    return part_path(device.staging / ".parts", what.digest, "memory:")


def test_beginning_by_a_liar(tmp_path: Path) -> None:
    """Mallory begins and breaks off, so that the honest mirror is blamed and barred."""
    device, (what,) = with_layers(tmp_path, os.urandom(3 * MIB))
    part = broken(device, what, bytes(2 * MIB))
    assert part.stat().st_size == 2 * MIB
    assert device.install() == "2.0.0"
    assert device.source.asked.count(str(what.digest)) == 2
    require_true_names(device)


def test_end_by_a_liar(tmp_path: Path) -> None:
    """An honest beginning makes no false end true; nothing of it is kept."""
    data = os.urandom(3 * MIB)
    device, (what,) = with_layers(tmp_path, data)
    part = broken(device, what, data[: 2 * MIB])
    liar = MemorySource(device.source.files.copy())
    liar.files.blobs[str(what.digest)] = data[: 2 * MIB] + bytes(MIB)
    device.contents = [liar]
    with refused(device, DigestMismatchError, "digest-mismatch", match="has digest"):
        device.fetch()
    assert not part.exists()
    device.contents = [device.source]
    assert device.install() == "2.0.0"


def test_beginning_that_somebody_prepared(tmp_path: Path) -> None:
    """Links are not followed, and what others can write is not gone on with."""
    data = os.urandom(3 * MIB)
    device, (what,) = with_layers(tmp_path, data)
    victim = tmp_path / "victim"
    victim.write_bytes(data[: 2 * MIB])
    part = part_path(device.staging / ".parts", what.digest, "memory:")
    part.parent.mkdir()
    part.symlink_to(victim)
    assert device.install() == "2.0.0"
    assert victim.read_bytes() == data[: 2 * MIB]
    require_true_names(device)


def test_parts_that_lie_elsewhere(tmp_path: Path) -> None:
    """The directory of parts is a link to one of somebody's: nothing is removed."""
    device, _ = with_layers(tmp_path, os.urandom(3 * MIB))
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_bytes(b"x")
    (device.staging / ".parts").symlink_to(victim)
    with refused(device, StorageError, "storage", match="is not a directory of this"):
        device.fetch()
    assert [one.name for one in victim.iterdir()] == ["precious"]
    (device.staging / ".parts").unlink()
    assert device.install() == "2.0.0"


def test_one_false_blob_among_many(tmp_path: Path) -> None:
    """Several are fetched at once: one wrong blob, and nothing is offered."""
    layers = [f"layer {number}".encode() for number in range(12)]
    device, found = with_layers(tmp_path, *layers)
    for number, what in enumerate(found):
        liar = MemorySource(device.source.files.copy())
        liar.files.blobs[str(what.digest)] = b"x" * what.size
        device.contents = [liar]
        blob_path(device.staging, what.digest).unlink(missing_ok=True)
        with refused(
            device, DigestMismatchError, "digest-mismatch", match=str(what.digest)
        ):
            device.fetch()
        assert len(offered(device)) == 1, number
    assert not [one for one in threading.enumerate() if "Executor" in one.name]
    device.contents = [device.source]
    assert device.install() == "2.0.0"


def test_alarm_that_a_slow_blob_would_hide(tmp_path: Path) -> None:
    """Two blobs are wrong: the same one is told, however Mallory paces them."""
    layers = [f"layer {number}".encode() for number in range(4)]
    device, found = with_layers(tmp_path, *layers)

    class Pacing(MemorySource):
        slow: Descriptor

        @contextmanager
        def blob(
            self,
            what: Descriptor,
            *,
            start: int = 0,
            tick: Callable[[int], None] | None = None,
        ) -> Iterator[BinaryIO]:
            if what == self.slow:
                time.sleep(0.1)
            with super().blob(what, start=start, tick=tick) as stream:
                yield stream

    for slow in found[1:3]:
        source = Pacing(device.source.files.copy())
        source.slow = slow
        for one in found[1:3]:
            source.files.blobs[str(one.digest)] = b"x" * one.size
        device.contents = [source]
        with refused(
            device, DigestMismatchError, "digest-mismatch", match=str(found[1].digest)
        ):
            device.fetch()


# --- platforms -----------------------------------------------------------------------


def listing(tmp_path: Path, *platforms: str | None) -> tuple[Device, list[Descriptor]]:
    """A device that runs 1.0.0, and 2.0.0, an index of a layer for each platform."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    entries, layers = [], []
    for number, platform in enumerate(platforms):
        data = f"{number} for {platform}".encode()
        other = {}
        if platform is not None:
            os_name, architecture = platform.split("/")
            other = {"platform": {"os": os_name, "architecture": architecture}}
        what = artifact(world, [(WASM, None, data)])
        entries.append(oci.Entry(descriptor=what, other=other))
        layers.append(Descriptor.of(data, WASM))
    index = world.add_blob(oci.index_bytes(entries), oci.INDEX)
    world.release("2.0.0", artifact=index, kind=None)
    device.source.files = world.publish()
    return device, layers


def test_platform_that_is_not_there(tmp_path: Path) -> None:
    """An index without our platform is refused, and not taken for an empty release."""
    device, _ = listing(tmp_path, "linux/amd64", None)
    release = device.verify()
    with refused(device, UnknownTargetError, "unknown-target", match="has nothing for"):
        device.verifier.fetch(
            release, device.staging, platforms=frozenset({"linux/arm64"})
        )
    assert device.install() == "2.0.0"


def test_what_was_not_fetched_is_not_opened(tmp_path: Path) -> None:
    """Also when it lies there: it was not part of this verification."""
    device, layers = listing(tmp_path, "linux/amd64", "linux/arm64")
    assert device.install() == "2.0.0"
    verifier, release = device.verifier, device.verify()
    content = verifier.fetch(
        release, device.staging, platforms=frozenset({"linux/arm64"})
    )
    with content.open(layers[1].digest) as stream:
        assert stream.read() == b"1 for linux/arm64"
    with pytest.raises(UnknownTargetError, match="is not part of"):
        content.open(layers[0].digest)
    assert content.platforms == frozenset({"linux/arm64"})


def test_platform_whose_bytes_are_false(tmp_path: Path) -> None:
    """Asked for or not decides what is fetched, never what is checked of it."""
    device, layers = listing(tmp_path, "linux/amd64", "linux/arm64")
    digest = str(layers[1].digest)
    honest = device.source.files.blobs[digest]
    device.source.files.blobs[digest] = b"x" * len(honest)
    release, verifier = device.verify(), device.verifier
    with refused(device, DigestMismatchError, "digest-mismatch", match="has digest"):
        verifier.fetch(release, device.staging, platforms=frozenset({"linux/arm64"}))
    verifier.fetch(release, device.staging, platforms=frozenset({"linux/amd64"}))
    device.source.files.blobs[digest] = honest
    assert device.install() == "2.0.0"
