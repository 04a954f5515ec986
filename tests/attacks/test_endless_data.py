"""The source sends more than was signed, or without end."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    BudgetError,
    CancelledError,
    DigestMismatchError,
    LengthMismatchError,
    TooLargeError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.limits import Control, Limits
from tests.attacks.scenes import LISTED, ON_THE_WAY, ROLES, Plant, refused, running
from tests.world import MemorySource
from tests.world.repository import bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath

PADDING = b" " * (17 << 20)  # spaces are JSON: nothing but the length is wrong
RECORD = "acme/releases/pump-monitor/1.2.0"
POLICY = "acme/policies/pump-monitor/1.json"
LIMITS = Limits()


class Endless(io.RawIOBase):
    """A stream that starts like a file and never ends; `sent` counts its bytes."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self.sent = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise RuntimeError("read without a limit from a stream without an end")
        data = self._start[self.sent : self.sent + size].ljust(size, b" ")
        self.sent += size
        return data


class Generous(MemorySource):
    """A source that knows no limit: it pads one metadata file and all targets."""

    padded = ""
    stream: Endless | None = None

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        del limit
        data = super().metadata(filename, limit=1 << 30, tick=tick)
        return data + PADDING if filename == self.padded else data

    @contextmanager
    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        with super().target(path, what, start=start, tick=tick) as stream:
            self.stream = Endless(stream.read())
            yield self.stream  # type: ignore[misc]  # a stream that lies


def next_state(plant: Plant) -> Generous:
    """Publish the next version of everything; return a source that can pad it."""
    world = plant.world
    world.release("1.2.0")
    world.touch("root", "targets", "acme")
    world.publish()
    source = Generous(world.files.copy())
    plant.device.source = source
    return source


@pytest.mark.parametrize("role", ROLES)
def test_endless_metadata(tmp_path: Path, role: str) -> None:
    """Mallory pads a role's file without end, through a transport that bounds nothing;
    it is refused for its length, before it is parsed."""
    plant = running(tmp_path)
    source = next_state(plant)

    version = plant.world.roles[role].version
    name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
    source.padded = name
    moved = [] if role == "root" else ["root", *ON_THE_WAY[role]]
    error = refused(
        plant.device,
        TooLargeError,
        "too-large",
        f"{name} has more than [0-9]+ bytes",
        last=name,
        moved=moved,
    )
    assert error.exit_status == 4
    source.padded = ""


@pytest.mark.parametrize("role", ["root", "timestamp"])
def test_metadata_above_the_limit(tmp_path: Path, role: str) -> None:
    """The same through a transport that keeps to the limit that it was given."""
    plant = running(tmp_path)
    world = plant.world
    world.touch("root")
    world.publish()
    plant.serve()

    name = {"root": "2.root.json", "timestamp": "timestamp.json"}[role]
    plant.device.source.files.metadata[name] += PADDING
    refused(
        plant.device,
        TooLargeError,
        "too-large",
        f"{name} is above {getattr(LIMITS, role)} bytes",
        last=name,
        moved=[] if role == "root" else ["root"],
    )


@pytest.mark.parametrize("role", ["snapshot", *LISTED])
def test_metadata_longer_than_signed(tmp_path: Path, role: str) -> None:
    """One byte more than was signed is not read, though far below the limit."""
    plant = running(tmp_path)
    world = plant.world
    world.release("1.2.0")
    world.touch("targets", "acme")
    world.publish()
    plant.serve()

    name = f"{world.roles[role].version}.{role}.json"
    signed = len(world.files.metadata[name])
    plant.device.source.files.metadata[name] += b" "
    refused(
        plant.device,
        TooLargeError,
        "too-large",
        f"{name} is above {signed} bytes",
        last=name,
        moved=ON_THE_WAY[role],
    )


@pytest.mark.parametrize("role", ["snapshot", *LISTED])
def test_signed_length_above_the_limit(tmp_path: Path, role: str) -> None:
    """Mallory, with the online keys, signs a length of terabytes; a signed length does
    not lift the device's limit, and nothing is asked for."""
    plant = running(tmp_path)
    world = plant.world
    if role == "snapshot":
        meta = bound(4, world.files.metadata["3.snapshot.json"])
        meta.length = 1 << 40
        world.bump("timestamp", 4)
        world.roles["timestamp"].snapshot_meta = meta
        world.files.metadata["timestamp.json"] = world.sign("timestamp")
    else:
        version = world.roles[role].version
        meta = bound(version + 1, world.files.metadata[f"{version}.{role}.json"])
        meta.length = 1 << 40
        world.roles["snapshot"].meta[f"{role}.json"] = meta
        world.publish_online()
    plant.serve()
    refused(
        plant.device,
        TooLargeError,
        "too-large",
        f"{role} has 1099511627776 bytes, more than the limit",
        moved=ON_THE_WAY[role],
        last="timestamp.json" if role == "snapshot" else "4.snapshot.json",
    )


MOVED = ["root", "timestamp", "snapshot", "timestamp_time", "root_time"]


def test_endless_record(tmp_path: Path) -> None:
    """Mallory sends a release record without end; one byte beyond the signed length is
    the last that is read."""
    plant = running(tmp_path)
    source = next_state(plant)
    error = refused(
        plant.device,
        LengthMismatchError,
        "length-mismatch",
        f"{RECORD} has more bytes than the signed",
        last=RECORD,
        moved=MOVED,
    )
    assert source.stream is not None
    assert source.stream.sent == error.expected + 1


@pytest.mark.parametrize("path", [RECORD, POLICY])
def test_small_target_of_another_length(tmp_path: Path, path: str) -> None:
    """A record or policy that is cut, padded or changed is not what was signed."""
    plant = running(tmp_path)
    next_state(plant)
    plant.device.source = MemorySource(plant.world.files.copy())
    for copy in (plant.device.state / "targets").iterdir():
        copy.unlink()
    files = plant.device.source.files
    where = next(one for one in files.targets if one[0] == path)
    honest = files.targets[where]
    for data, fault in (
        (honest + b" ", "more"),
        (honest[:-1], "fewer"),
        (b"", "fewer"),
    ):
        files.targets[where] = data
        refused(
            plant.device,
            LengthMismatchError,
            "length-mismatch",
            f"{path} has {fault} bytes than the signed {len(honest)}",
            last=path,
            moved=MOVED,
        )
    files.targets[where] = honest[:-2] + b"]\n"
    refused(
        plant.device,
        DigestMismatchError,
        "digest-mismatch",
        f"{path} is .* signed is",
        last=path,
        moved=MOVED,
    )


def test_record_in_small_pieces(tmp_path: Path) -> None:
    """A source may send a few bytes at a time; that is slow and not wrong."""
    plant = running(tmp_path)

    class Trickling(MemorySource):
        @contextmanager
        def target(
            self,
            path: TargetPath,
            what: Descriptor,
            *,
            start: int = 0,
            tick: Callable[[int], None] | None = None,
        ) -> Iterator[BinaryIO]:
            with super().target(path, what, start=start, tick=tick) as stream:
                whole = stream.read

                def few(size: int = -1) -> bytes:
                    return whole(min(size, 7))

                stream.read = few  # type: ignore[method-assign]  # a stream that lies
                yield stream

    next_state(plant)
    plant.device.source = Trickling(plant.world.files.copy())
    plant.device.contents = [plant.device.source]
    assert plant.device.version() == "1.2.0"


def test_signed_record_above_the_limit(tmp_path: Path) -> None:
    """Mallory holds the CI key and signs a record of terabytes; the device's own limit
    stands, and nothing is asked for."""
    plant = running(tmp_path)
    world = plant.world
    world.release("1.2.0")
    world.roles["acme.pump-monitor"].targets[RECORD].length = 1 << 40
    world.publish()
    plant.serve()
    refused(
        plant.device,
        TooLargeError,
        "too-large",
        f"{RECORD} has 1099511627776 bytes, more than the limit of 1048576",
        last="3.acme.pump-monitor.json",
        moved=MOVED,
    )


def verify_within(plant: Plant, control: Control) -> None:
    plant.device.verifier.verify(
        ReleaseName.parse("acme/pump-monitor"), Pin.parse_argument("*"), control=control
    )


def test_source_above_the_budget(tmp_path: Path) -> None:
    """Many files below their limits are endless too: a call has a budget in bytes, and
    its caller can end it."""
    plant = running(tmp_path)
    next_state(plant)
    refused(
        plant.device,
        BudgetError,
        "budget",
        "read more than its 3000 bytes",
        moved=MOVED,
        call=lambda: verify_within(plant, Control(max_bytes=3000)),
    )
    refused(
        plant.device,
        CancelledError,
        "cancelled",
        "the caller cancelled",
        call=lambda: verify_within(plant, Control(cancelled=lambda: True)),
    )
    assert plant.device.source.asked == []
