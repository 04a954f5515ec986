"""Large content over several runs: gone on with, hashed again, thrown away if wrong."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    StorageError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.storage.operations import Operations
from margo_supplychain.storage.parts import (
    MOST_PARTS,
    WORTH_KEEPING,
    part_path,
    remove_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 5)
WHAT = Descriptor.of(DATA, "application/wasm")
SMALL = Descriptor.of(b"small", "application/wasm")


class Line(io.RawIOBase):
    """Bytes that break off, as a connection does."""

    def __init__(self, data: bytes, *, after: int | None = None) -> None:
        self._data = io.BytesIO(data)
        self._left = after

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        size = memoryview(buffer).nbytes  # type: ignore[arg-type]  # typeshed: no Buffer
        if self._left is not None:
            if not self._left:
                raise FetchError("it broke off", url="test:")
            size = min(size, self._left)
            self._left -= size
        piece = self._data.read(size)
        memoryview(buffer)[: len(piece)] = piece  # type: ignore[arg-type]  # likewise
        return len(piece)


class Story:
    """A store, and somebody who fills it."""

    def __init__(self, directory: Path) -> None:
        self.store = ContentStore.create(directory / "store")
        self.parts = self.store.directory / ".parts"
        self.part = part_path(self.parts, WHAT.digest, "")
        self.asked: list[int] = []
        self.hashed = self.came = 0

    def opener(
        self, data: bytes = DATA, *, after: int | None = None
    ) -> Callable[[int], AbstractContextManager[BinaryIO]]:
        @contextmanager
        def open_at(start: int) -> Iterator[BinaryIO]:
            self.asked.append(start)
            yield Line(data[start:], after=after)  # type: ignore[misc]  # has readinto

        return open_at

    def part_of(self, source: str) -> Path:
        return part_path(self.parts, WHAT.digest, source)

    def put(
        self, data: bytes = DATA, *, after: int | None = None, source: str = ""
    ) -> None:
        self.asked.clear()
        self.hashed = self.came = 0

        def look(size: int) -> None:
            self.hashed += size

        def tick(size: int) -> None:
            self.came += size

        self.store.put_resumable(
            WHAT,
            self.opener(data, after=after),
            source=source,
            look=look,
            tick=tick,
        )

    def broken(self, after: int, data: bytes = DATA, *, source: str = "") -> None:
        with pytest.raises(FetchError, match="it broke off"):
            self.put(data, after=after, source=source)

    def stored(self) -> bytes | None:
        path = blob_path(self.store.directory, WHAT.digest)
        return path.read_bytes() if path.exists() else None


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_in_one_run(story: Story) -> None:
    story.put()
    assert (story.asked, story.hashed, story.came) == ([0], 0, len(DATA))
    assert story.stored() == DATA
    assert not story.part.exists()
    story.store.remove_parts()
    assert not story.parts.exists()


def test_in_three_runs(story: Story) -> None:
    story.broken(2 * MIB)
    assert story.stored() is None
    assert story.part.read_bytes() == DATA[: 2 * MIB]
    assert story.part.stat().st_mode & 0o077 <= 0o044
    story.broken(100)
    assert (story.asked, story.hashed, story.came) == ([2 * MIB], 2 * MIB, 100)
    story.put()
    assert story.asked == [2 * MIB + 100]
    assert story.hashed + story.came == len(DATA)
    assert story.stored() == DATA
    assert not story.part.exists()


def test_what_is_whole_but_for_its_name(story: Story) -> None:
    """As a kill before the last step leaves it: nobody is asked again."""
    story.broken(2 * MIB)
    story.part.write_bytes(DATA)
    story.put()
    assert (story.asked, story.hashed, story.came) == ([], len(DATA), 0)
    assert story.stored() == DATA


def test_a_little_is_not_kept(story: Story) -> None:
    story.broken(WORTH_KEEPING - 1)
    assert not story.part.exists()
    story.broken(0)
    assert not story.part.exists()


def test_small_content_has_no_parts(story: Story) -> None:
    story.store.put_resumable(SMALL, story.opener(b"small"))
    assert story.store.has(SMALL)
    assert not story.parts.exists()
    with pytest.raises(LengthMismatchError, match="has 4 bytes"):
        story.store.put_resumable(SMALL, story.opener(b"smal"))


def test_a_beginning_that_was_wrong(story: Story) -> None:
    """A liar began and an honest source goes on: begun anew, at once."""
    story.broken(2 * MIB, bytes(len(DATA)))
    story.put()
    assert story.asked == [2 * MIB, 0]
    assert story.stored() == DATA


def test_a_beginning_on_a_bad_disk(story: Story) -> None:
    story.broken(2 * MIB)
    damaged = bytearray(story.part.read_bytes())
    damaged[MIB] ^= 1
    story.part.write_bytes(damaged)
    story.put()
    assert story.asked == [2 * MIB, 0]
    assert story.stored() == DATA


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (bytes(len(DATA)), DigestMismatchError),
        (DATA[:-1], LengthMismatchError),
        (DATA + b"x", LengthMismatchError),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_wrong_bytes_leave_nothing(
    story: Story, data: bytes, error: type[Exception], begun: bool
) -> None:
    if begun:
        story.broken(2 * MIB)
    with pytest.raises(error):
        story.put(data)
    assert story.asked == ([2 * MIB, 0] if begun else [0])
    assert story.stored() is None
    assert not story.part.exists()


def test_a_part_that_is_too_large(story: Story) -> None:
    story.broken(2 * MIB)
    story.part.write_bytes(DATA + b"more")
    story.put()
    assert story.asked == [0]
    assert story.stored() == DATA


@pytest.mark.parametrize("how", ["link", "hard link", "mode", "pipe", "empty"])
def test_a_part_that_nobody_left_here(story: Story, tmp_path: Path, how: str) -> None:
    """Somebody may have prepared the directory: only what is ours alone is used."""
    story.parts.mkdir()
    theirs = tmp_path / "theirs"
    theirs.write_bytes(DATA[: 2 * MIB])
    if how == "link":
        story.part.symlink_to(theirs)
    elif how == "hard link":
        story.part.hardlink_to(theirs)
    elif how == "pipe":
        os.mkfifo(story.part)
    else:
        story.part.write_bytes(b"" if how == "empty" else DATA[: 2 * MIB])
        story.part.chmod(0o666 if how == "mode" else 0o600)
    story.put()
    assert story.asked == [0]
    assert story.stored() == DATA
    assert theirs.read_bytes() == DATA[: 2 * MIB]


# --- several sources -----------------------------------------------------------------


def test_another_source_goes_on(story: Story) -> None:
    story.broken(2 * MIB, source="a")
    story.put(source="b")
    assert story.asked == [2 * MIB]
    assert story.hashed == 4 * MIB  # copied, and hashed
    assert story.stored() == DATA
    assert list(story.parts.iterdir()) == []


@pytest.mark.parametrize("data", [bytes(len(DATA)), DATA[:-1]])
def test_a_liar_takes_nothing_away(story: Story, data: bytes) -> None:
    story.broken(2 * MIB, source="a")
    with pytest.raises((DigestMismatchError, LengthMismatchError)):
        story.put(data, source="liar")
    assert story.asked == [2 * MIB, 0]
    assert not story.part_of("liar").exists()
    story.broken(MIB, bytes(len(DATA)), source="liar")
    assert story.part_of("liar").stat().st_size == 3 * MIB
    assert story.part_of("a").read_bytes() == DATA[: 2 * MIB]
    story.put(source="a")
    assert story.asked == [2 * MIB]
    assert story.stored() == DATA


def test_a_liar_spoils_a_beginning_once(story: Story) -> None:
    """Who went on with it begins anew, and keeps that."""
    story.broken(2 * MIB, bytes(len(DATA)), source="liar")
    with pytest.raises(FetchError):
        # The rest comes, is wrong, and of the new beginning so much.
        story.put(after=MIB + 10, source="a")
    assert story.asked == [2 * MIB, 0]
    assert story.part_of("a").read_bytes() == DATA[: MIB + 10]
    story.put(source="a")
    assert story.asked == [MIB + 10]
    assert story.stored() == DATA


def test_few_sources_leave_something(story: Story) -> None:
    for number in range(MOST_PARTS + 2):
        story.broken(100 if number else MIB, source=str(number))
    # A source begins with the most that is there, and the smallest makes room.
    assert len(list(story.parts.iterdir())) == MOST_PARTS
    assert not story.part_of("0").exists()
    story.store.remove_parts(but=[WHAT.digest])
    assert len(list(story.parts.iterdir())) == MOST_PARTS
    story.put(source="another")
    assert list(story.parts.iterdir()) == []


def test_no_room_for_two(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is there is gone on with, as it is the only way to the end."""

    class Little:
        f_bavail, f_frsize = len(DATA) - 1, 1

    story.broken(2 * MIB, source="a")
    monkeypatch.setattr(os, "statvfs", lambda _: Little)
    story.broken(10, source="b")
    assert [one.name for one in story.parts.iterdir()] == [story.part_of("b").name]
    story.put(source="a")
    assert story.asked == [2 * MIB + 10]
    assert story.stored() == DATA


def test_no_room_after_all(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.broken(2 * MIB, source="a")

    class Full(Operations):
        def write(self, descriptor: int, data: memoryview) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "operations", Full())
    with pytest.raises(StorageError, match="No space left"):
        story.put(source="b")
    assert not story.part_of("b").exists()
    assert story.part_of("a").stat().st_size == 2 * MIB


def test_parts_of_others_that_are_none(story: Story, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(DATA[: 2 * MIB])
    story.parts.mkdir()
    story.part_of("a").symlink_to(theirs)
    os.mkfifo(story.part_of("b"))
    story.put(source="c")
    assert story.asked == [0]
    assert story.stored() == DATA
    assert theirs.read_bytes() == DATA[: 2 * MIB]


def test_a_caller_that_stops_while_a_beginning_is_copied(story: Story) -> None:
    story.broken(2 * MIB, source="a")

    def stop(size: int) -> None:
        raise FetchError(f"after {size}", url="test:")

    with pytest.raises(FetchError, match="after"):
        story.store.put_resumable(WHAT, story.opener(), source="b", look=stop)
    assert story.part_of("a").stat().st_size == 2 * MIB
    story.store.put_resumable(WHAT, story.opener(), source="b")
    assert story.stored() == DATA


@pytest.mark.parametrize("act", ["put", "clean"])
@pytest.mark.parametrize("how", ["link", "file"])
def test_a_directory_that_is_not_ours(
    story: Story, tmp_path: Path, how: str, act: str
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").write_bytes(b"x")
    if how == "link":
        story.parts.symlink_to(theirs)
    else:
        story.parts.write_bytes(b"")
    with pytest.raises(StorageError, match="directory"):
        story.put() if act == "put" else story.store.remove_parts()
    assert [one.name for one in theirs.iterdir()] == ["precious"]


def test_a_full_disk_keeps_no_part(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.broken(2 * MIB)

    class Full(Operations):
        def write(self, descriptor: int, data: memoryview) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "operations", Full())
    with pytest.raises(StorageError, match="No space left"):
        story.put()
    assert not story.part.exists()


def test_parts_that_nobody_goes_on_with(story: Story) -> None:
    story.broken(2 * MIB)
    story.store.remove_parts(but=[SMALL.digest, WHAT.digest])
    assert story.part.exists()
    other = part_path(story.parts, SMALL.digest, "")
    other.write_bytes(b"x")
    story.store.remove_parts(but=[WHAT.digest])
    assert story.part.exists()
    assert not other.exists()
    story.store.remove_parts()
    assert not story.parts.exists()
    story.store.remove_parts()


def test_parts_that_can_not_be_removed(tmp_path: Path) -> None:
    (tmp_path / "parts" / "directory").mkdir(parents=True)
    with pytest.raises(StorageError, match="can't clean"):
        remove_parts(tmp_path / "parts")


def test_another_algorithm(story: Story) -> None:
    digest = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    what = Descriptor(
        media_type=WHAT.media_type,
        digest=type(WHAT.digest).parse(digest),
        size=WHAT.size,
    )
    with pytest.raises(FetchError):
        story.store.put_resumable(what, story.opener(after=2 * MIB))
    story.store.put_resumable(what, story.opener())
    assert story.asked == [0, 2 * MIB]
    assert story.store.has(what)
