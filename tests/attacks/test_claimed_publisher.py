"""A repository speaks for a publisher that it was not given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import AmbiguousRoleError, UnknownTargetError
from margo_supplychain.verify.trust_store import TrustStore
from tests.attacks.standing import refused, stands
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path


def test_a_repository_defines_a_publisher_it_was_not_given(tmp_path: Path) -> None:
    """The plant's own repository lists acme's application, all of it well signed."""
    world = World(publishers=("bolt",))
    world.release("1.0.0", "bolt/valve")
    world.publish()
    device = world.device(tmp_path, publishers=frozenset({"bolt"}))
    assert device.version("bolt/valve") == "1.0.0"  # sane

    world.add_publisher("acme")
    world.release("1.0.0")
    device.source.files = world.publish()
    device.source.asked.clear()
    with refused(
        device,
        UnknownTargetError,
        "unknown-target",
        match=r"acme is not a publisher of this repository \(it may speak for bolt\)",
    ):
        device.verify()
    assert device.source.asked == []  # nobody was even asked


@pytest.mark.parametrize("lost", ["nothing", "memory-a", "memory-b"])
def test_a_second_repository_claims_a_publisher(tmp_path: Path, lost: str) -> None:
    """Whoever provisions a second repository can't give it acme as well."""
    acme = World()
    acme.release("1.0.0")
    acme.publish()
    device = acme.device(tmp_path)
    assert device.version() == "1.0.0"  # sane
    before = stands(device)

    (device.state / lost).unlink(missing_ok=True)
    second = World(publishers=("bolt", "acme"))
    with pytest.raises(
        AmbiguousRoleError,
        match=r"publisher acme is claimed by the store .*/store already",
    ) as caught:
        TrustStore.create(
            tmp_path / "second",
            root=second.files.metadata["1.root.json"],
            publishers=frozenset({"bolt", "acme"}),
        )
    assert caught.value.code == "ambiguous-role"
    assert not (tmp_path / "second").exists()
    assert stands(device) == before
    assert device.version() == "1.0.0"
