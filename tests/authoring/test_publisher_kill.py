"""Killed at any write of what changes a publisher: the repository stays sound, devices
see the old state or the new one, and the next run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import ThresholdError, UnknownTargetError
from margo_supplychain.formats.names import ReleaseName
from tests.authoring.marketplace import ANY, TORQUE, Marketplace, public
from tests.authoring.trust import OPEN, PUMP, Vendor, key
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit

ZETA = "zeta"


@pytest.fixture
def original(tmp_path: Path) -> Vendor:
    """A repository with acme's pump and bolt's torque in it."""
    (tmp_path / "start").mkdir()
    return Marketplace(tmp_path / "start").vendor


def sound(vendor: Vendor) -> None:
    """Expect what `repo check` accepts, and what everybody else goes on with."""
    assert vendor.repository.check(clock=vendor.clock).violations == ()
    assert str(vendor.device().verify(TORQUE, ANY).version) == "1.0.0"


def killed(
    original: Vendor,
    scratch: Path,
    change: Callable[[Edit], object],
    *names: str,
    old: Callable[[Vendor], None],
    new: Callable[[Vendor], None],
    losses: tuple[Loss, ...] = (Loss.UNSYNCED,),
) -> int:
    """Kill a change at each of its writes.

    Args:
        original: where it starts.
        scratch: where copies go.
        change: what is done.
        names: keys besides the operator's.
        old, new: expect the state before and after it.
        losses: the kinds of crash to play.
    """

    def at(copy: Path) -> Vendor:
        return Vendor(copy, clock=original.clock, profile="standard")

    def run(vendor: Vendor) -> None:
        keys = [*vendor.keys, *map(key, names)]
        with vendor.repository.edit(keys, clock=vendor.clock) as edit:
            change(edit)

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy)
        sound(vendor)
        if crash.finished:
            new(vendor)
        else:
            _either(vendor, old, new)
        run(vendor)
        new(vendor)
        sound(vendor)
        assert not any(".tmp-" in name for name in vendor.files())

    return crash_points(
        original.directory,
        lambda copy: run(at(copy)),
        check,
        scratch=scratch,
        losses=losses,
    )


def _either(vendor: Vendor, *states: Callable[[Vendor], None]) -> None:
    failed = []
    for state in states:
        try:
            state(vendor)
        except AssertionError as why:
            failed.append(why)
        else:
            return
    raise failed[-1]


def delegated(vendor: Vendor) -> dict[str, list[str]]:
    """Return each publisher with its key ids, as `targets` has it now."""
    signed = vendor.signed(f"{vendor.version('targets')}.targets.json")
    roles = signed["delegations"]["roles"]
    return {one["name"]: one["keyids"] for one in roles}


def add(edit: Edit) -> bool:
    return edit.add_publisher(ZETA, [public(ZETA)], threshold=1)


def no_zeta(vendor: Vendor) -> None:
    assert ZETA not in delegated(vendor)


@pytest.mark.parametrize("loss", Loss)
def test_publisher_add_with_a_public_key(
    original: Vendor, tmp_path: Path, loss: Loss
) -> None:
    def has_zeta(vendor: Vendor) -> None:
        assert delegated(vendor)[ZETA] == [public(ZETA).keyid]
        assert not (vendor.trust / "metadata/1.zeta.json").exists()

    writes = killed(original, tmp_path, add, old=no_zeta, new=has_zeta, losses=(loss,))
    assert writes > 10


def test_publisher_add_with_its_private_key(original: Vendor, tmp_path: Path) -> None:
    def has_zeta(vendor: Vendor) -> None:
        assert delegated(vendor)[ZETA] == [public(ZETA).keyid]
        vendor.version(ZETA)

    writes = killed(original, tmp_path, add, ZETA, old=no_zeta, new=has_zeta)
    assert writes > 10


def test_an_application_follows_after_a_kill(original: Vendor, tmp_path: Path) -> None:
    """What a killed run left does not keep the vendor from its first submission."""

    def both(edit: Edit) -> None:
        add(edit)
        name = ReleaseName(ZETA, TORQUE.name)
        edit.add_application(name, [public("torque-ci")], policy=OPEN)

    def has_application(vendor: Vendor) -> None:
        version = vendor.version(ZETA) if ZETA in delegated(vendor) else 0
        assert version > 0

    killed(original, tmp_path, both, ZETA, old=no_zeta, new=has_application)


def test_publisher_rotate(original: Vendor, tmp_path: Path) -> None:
    def rotate(edit: Edit) -> bool:
        return edit.rotate_keys("acme", [public("new")], threshold=1)

    def follows(name: str) -> Callable[[Vendor], None]:
        def state(vendor: Vendor) -> None:
            assert delegated(vendor)["acme"] == [public(name).keyid]
            assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"

        return state

    killed(
        original,
        tmp_path,
        rotate,
        "new",
        old=follows("acme"),
        new=follows("new"),
    )


def test_publisher_rotate_with_a_cut_off(original: Vendor, tmp_path: Path) -> None:
    def rotate(edit: Edit) -> bool:
        return edit.cut_off_keys("acme", [public("new")], threshold=1)

    def follows(vendor: Vendor) -> None:
        assert delegated(vendor)["acme"] == [public("acme").keyid]
        assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"

    def is_cut_off(vendor: Vendor) -> None:
        assert delegated(vendor)["acme"] == [public("new").keyid]
        with pytest.raises(ThresholdError):
            vendor.device().verify(PUMP, ANY)

    killed(original, tmp_path, rotate, old=follows, new=is_cut_off)


def test_publisher_remove(original: Vendor, tmp_path: Path) -> None:
    def follows(vendor: Vendor) -> None:
        assert "acme" in delegated(vendor)
        assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"

    def is_gone(vendor: Vendor) -> None:
        assert "acme" not in delegated(vendor)
        with pytest.raises(UnknownTargetError):
            vendor.device().verify(PUMP, ANY)

    def remove(edit: Edit) -> bool:
        return edit.remove_publisher("acme")

    killed(original, tmp_path, remove, old=follows, new=is_gone)
