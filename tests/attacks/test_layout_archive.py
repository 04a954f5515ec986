"""T-72: a tar of a layout that reads in two ways, leads elsewhere or never ends."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import BudgetError, DigestMismatchError, FetchError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.transport import layout_archive
from margo_supplychain.transport.opening import open_source
from margo_supplychain.verify.clock import Freshness
from tests.attacks.standing import refused, stands
from tests.formats.tars import END, entry, padded, pax, raw
from tests.registries.plant import RegistryDevice, quick
from tests.world import World
from tests.world.media import put_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.world import Files

Members = dict[str, bytes]


class Plant:
    """A device that runs 1.1.0 from a tar, and Mallory, who packs the next one."""

    def __init__(self, place: Path) -> None:
        self.world = World()
        self.world.release("1.1.0")
        self.path = place / "bundle.tar"
        url = f"oci-archive:{self.path}"
        files = self.world.publish()
        put_files(files, url)
        self.device = RegistryDevice(
            place / "device",
            files,
            self.world.clock,
            trust=url,
            content=(url,),
            network=quick(),
        )
        assert self.device.install() == "1.1.0"
        self.world.release("1.2.0")
        self.new = self.world.publish()
        self.serve(self.new)

    def serve(self, files: Files) -> None:
        """Let exactly these files be in the archive."""
        self.path.unlink(missing_ok=True)
        put_files(files, f"oci-archive:{self.path}")

    def members(self) -> Members:
        """Return what the archive holds."""
        with tarfile.open(self.path) as archive:
            return {one.name: _bytes_of(archive, one) for one in archive}

    def ends_with(self, data: bytes) -> None:
        """Put more members after the honest ones."""
        honest = self.path.read_bytes()
        assert honest.endswith(END)
        self.path.write_bytes(honest.removesuffix(END) + data + END)


def _bytes_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    assert file is not None
    return file.read()


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def says_nothing(plant: Plant, match: str) -> None:
    """The archive is no source: the device goes on with what it had, and no more."""
    memory, before = plant.device.memory, stands(plant.device)
    source = open_source(plant.path)
    with pytest.raises(FetchError, match=match) as caught:
        source.metadata("2.root.json", limit=1000)
    assert not caught.value.missing
    assert plant.device.version() == "1.1.0"
    assert plant.device.refresh() is not Freshness.UNPROVEN
    assert plant.device.memory == memory
    assert stands(plant.device) == before
    # The right archive, and all is well.
    plant.serve(plant.new)
    assert plant.device.install() == "1.2.0"


INDEX_AGAIN = b'{"schemaVersion":2,"manifests":[]}'


@pytest.mark.parametrize(
    ("more", "text"),
    [
        # One reader takes the first of two, another the last.
        (raw(b"index.json", size=34) + padded(INDEX_AGAIN), "is there twice"),
        (raw(b"./index.json", size=34) + padded(INDEX_AGAIN), "is there twice"),
        (raw(b"index.json", b"2", link=b"/etc/passwd"), "symbolic link"),
        (raw(b"blobs/sha256/x", b"1", link=b"index.json"), "hard link"),
        (raw(b"blobs/../../etc/cron.d/x"), "leads elsewhere"),
        (raw(b"/etc/cron.d/x"), "leads elsewhere"),
        (raw(b"blobs\\..\\x"), "leads elsewhere"),
        (raw(b"dev", b"3"), "a character device"),
        (raw(b"hole", b"S"), "a sparse file"),
        (pax(b"GNU.sparse.major=1") + raw(b"hole"), "a sparse file"),
        (pax(b"size=9") + raw(b"x", size=2) + padded(b"xx"), "states two sizes"),
        (raw(b"x", size=b"\x80" + b"\0" * 10 + b"\x01"), "is not octal"),
        (raw(b"x", size=b"77777777777\0"), "it ends early"),
        (raw(b"x", sum=b"0000000\0"), "checksum"),
    ],
)
def test_archive_that_reads_in_two_ways(plant: Plant, more: bytes, text: str) -> None:
    """Mallory adds a member to the honest ones: a second list, a link, a way out. The
    archive is refused as a whole, so that no two programs see two different ones."""
    plant.ends_with(more)
    says_nothing(plant, text)
    assert not plant.path.parent.joinpath("etc").exists()


@pytest.mark.parametrize("kept", [0, 100, 3000, -1])
def test_archive_that_is_cut_off(plant: Plant, kept: int) -> None:
    """The stick was pulled too early."""
    data = plant.path.read_bytes()
    plant.path.write_bytes(data[:kept] if kept >= 0 else data.removesuffix(END))
    says_nothing(plant, r"ends early|damaged")


def test_archive_of_many_members(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers without end: the limit is told, and they are not read once more."""
    few = replace(layout_archive.LIMITS, members=2000)
    monkeypatch.setattr(layout_archive, "LIMITS", few)
    with plant.path.open("wb") as file:
        for number in range(5000):
            file.write(raw(b"%d" % number))
    source = open_source(plant.path)
    counted: list[int] = []
    for _ in range(3):
        with pytest.raises(FetchError, match="more members"):
            source.metadata("timestamp.json", limit=99, tick=counted.append)
    assert len(counted) == 2001
    monkeypatch.undo()
    says_nothing(plant, "it ends early")


def test_archive_that_takes_a_devices_time(plant: Plant) -> None:
    """While headers are read, the call's deadline holds."""
    count = 0

    def tick(_: int) -> None:
        nonlocal count
        count += 1
        if count > 5:
            raise BudgetError("no time left")

    plant.ends_with(b"".join(raw(b"x%d" % n) for n in range(1000)))
    with pytest.raises(BudgetError, match="no time left"):
        open_source(plant.path).metadata("timestamp.json", limit=9, tick=tick)
    assert count == 6


def test_large_members_are_not_read(plant: Plant) -> None:
    """A gigabyte of zeros in the way costs nothing."""
    with plant.path.open("r+b") as file:
        file.seek(-len(END), io.SEEK_END)
        file.write(raw(b"zeros", size=1 << 30))
        file.seek(1 << 30, io.SEEK_CUR)  # a hole, which the file system keeps as one
        file.write(END)
    assert plant.device.version() == "1.2.0"


@pytest.mark.parametrize("change", [bytes.upper, lambda data: data[:-1] + b"!"])
def test_content_is_swapped(plant: Plant, change: Callable[[bytes], bytes]) -> None:
    """Bytes under the right name: what is fetched is compared with what is signed."""
    members = plant.members()
    manifest = json.loads(
        members[f"blobs/sha256/{plant.device.verify().manifest.digest.hex}"]
    )
    digest = Digest.parse(manifest["layers"][0]["digest"])
    name = f"blobs/sha256/{digest.hex}"
    members[name] = change(members[name])
    with tarfile.open(plant.path, "w") as archive:
        for one, data in members.items():
            info = entry(one)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with refused(
        plant.device, DigestMismatchError, "digest-mismatch", match="has digest"
    ):
        plant.device.fetch()
