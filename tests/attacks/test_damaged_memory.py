"""The device's memory is damaged, by a power cut or so that old metadata is new."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import RollbackError, StateLostError
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.trust_store import MEMORY_FILES
from tests.attacks.scenes import APPLICATION, contents, refused, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def deleted(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def one_byte_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def one_byte_long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def zeroed_at_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-512] + bytes(512))


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff" * 64 + b"\n{}")


def of_another_file(path: Path) -> None:
    shutil.copyfile(path.parent / "metadata" / "timestamp.json", path)


def lowered(path: Path) -> None:
    """Mallory edits a version, and knows nothing of the checksum."""
    data = path.read_bytes()
    assert b'"version":3' in data
    path.write_bytes(data.replace(b'"version":3', b'"version":1'))


DAMAGES = (
    deleted,
    empty,
    truncated,
    one_byte_short,
    one_byte_long,
    zeroed,
    zeroed_at_the_end,
    not_text,
    of_another_file,
    lowered,
)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", MEMORY_FILES)
def test_one_copy_of_the_memory_is_damaged(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """One copy is gone or damaged and older metadata is served: the other copy knows,
    and the damaged one is whole again."""
    plant = running(tmp_path)
    path = plant.device.state / name
    whole = path.read_bytes()

    damage(path)
    plant.device.source.files = plant.old
    refused(
        plant.device, RollbackError, "rollback", "timestamp v2 is older than trusted v3"
    )
    assert path.read_bytes() == whole
    plant.serve()
    assert plant.device.version() == "1.1.0"


@pytest.mark.parametrize("damage", DAMAGES)
def test_both_copies_of_the_memory_are_damaged(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Both copies are damaged: that is an error and never a new beginning, whatever is
    served, and nothing is asked for."""
    plant = running(tmp_path)
    installed = contents(plant.device)
    for name in MEMORY_FILES:
        damage(plant.device.state / name)

    plant.device.source.files = plant.old
    plant.device.source.asked.clear()
    for _ in range(2):
        with pytest.raises(StateLostError, match="has no readable memory") as caught:
            plant.device.verify()
        assert type(caught.value) is StateLostError
        assert (caught.value.code, caught.value.exit_status) == ("state-lost", 4)
    assert plant.device.source.asked == []
    assert contents(plant.device) == installed
    left = {one.name for one in plant.device.state.iterdir()} & set(MEMORY_FILES)
    assert left == (set() if damage is deleted else set(MEMORY_FILES))


def test_both_copies_damaged_in_different_ways(tmp_path: Path) -> None:
    """Two halves of two copies are no memory."""
    plant = running(tmp_path)
    first, second = (plant.device.state / name for name in MEMORY_FILES)
    truncated(first)
    zeroed_at_the_end(second)
    with pytest.raises(StateLostError):
        plant.device.verify()


@pytest.mark.parametrize("name", MEMORY_FILES)
def test_one_copy_of_the_memory_is_an_older_one(tmp_path: Path, name: str) -> None:
    """Mallory puts back an older copy, or the power went between the two: the newer of
    two good copies counts, whichever it is."""
    plant = running(tmp_path)
    path = plant.device.state / name
    older = path.read_bytes()
    plant.world.release("1.2.0")
    plant.world.publish()
    plant.serve()
    assert plant.device.install() == "1.2.0"
    memory = plant.device.memory

    path.write_bytes(older)
    assert plant.device.memory == memory
    assert path.read_bytes() != older
    plant.device.source.files = plant.old
    refused(
        plant.device, RollbackError, "rollback", "timestamp v2 is older than trusted v4"
    )


@pytest.mark.parametrize("name", MEMORY_FILES)
def test_any_flipped_bit_of_the_memory(tmp_path: Path, name: str) -> None:
    """A bit flips in one copy, anywhere: it is found and repaired, never believed."""
    plant = running(tmp_path)
    memory = plant.device.memory
    path = plant.device.state / name
    whole = path.read_bytes()
    assert Memory.from_bytes(whole) == memory  # sane
    for position in range(0, len(whole), 41):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position // 41 % 8)
        path.write_bytes(bytes(flipped))
        assert plant.device.memory == memory, position
        assert path.read_bytes() == whole, position


def test_memory_is_lost_and_made_anew(tmp_path: Path) -> None:
    """Only whoever sets the device up makes a memory, from a root out of band; opening
    makes none, and the old directory is no obstacle to seeing that."""
    plant = running(tmp_path)
    shutil.rmtree(plant.device.state)
    with pytest.raises(StateLostError):
        plant.device.verify()
    assert not plant.device.state.exists()
    fresh = plant.world.device(tmp_path / "fresh")
    assert fresh.install() == "1.1.0"
    assert fresh.trusted[APPLICATION] == 2
