"""A caller makes, copies or changes an answer that only the verifier gives."""

from __future__ import annotations

import ast
import copy
import dataclasses
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import margo_supplychain
from margo_supplychain.formats.digests import Digest
from margo_supplychain.verify.results import VerifiedContent, VerifiedRelease
from tests.attacks.standing import stands
from tests.world import World

if TYPE_CHECKING:
    from tests.world import Device

PACKAGE = Path(margo_supplychain.__file__).parent
MADE = "made only by a Verifier"


def answers(tmp_path: Path) -> tuple[Device, VerifiedRelease, VerifiedContent]:
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    content = device.fetch()  # sane
    return device, content.release, content


def fields_of(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def test_result_made_by_hand(tmp_path: Path) -> None:
    """Neither the constructor nor `replace` makes one, whatever seal is shown."""
    _, release, content = answers(tmp_path)
    made: list[tuple[Any, Any]] = [
        (VerifiedRelease, release),
        (VerifiedContent, content),
    ]
    for kind, value in made:
        facts = fields_of(value)
        with pytest.raises(TypeError, match="seal"):
            kind(**facts)
        for seal in (None, True, object()):
            with pytest.raises(TypeError, match=MADE):
                kind(**facts, seal=seal)
            with pytest.raises(TypeError, match=MADE):
                dataclasses.replace(value, seal=seal)
        with pytest.raises(ValueError, match="seal"):
            dataclasses.replace(value)


def test_result_copied(tmp_path: Path) -> None:
    """No copy, no pickle, no state out or in."""
    _, release, content = answers(tmp_path)
    for value in (release, content):
        for how in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=MADE):
                how(value)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match=MADE):
                value.__reduce_ex__(protocol)
        with pytest.raises(TypeError, match=MADE):
            value.__getstate__()
        with pytest.raises(TypeError, match=MADE):
            value.__setstate__([])


def test_result_changed(tmp_path: Path) -> None:
    """Fields can't be set, deleted or added, and what they hold can't be either."""
    _, release, content = answers(tmp_path)
    for value in (release, content):
        for one in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, one.name, None)
            with pytest.raises(dataclasses.FrozenInstanceError):
                delattr(value, one.name)
        with pytest.raises((AttributeError, TypeError)):
            value.extra = 1  # type: ignore[union-attr]  # the attack
        assert not hasattr(value, "__dict__")
    mutable: tuple[Any, Any] = (release.components, content.digests)
    for mapping in mutable:
        with pytest.raises(TypeError):
            mapping[Digest.of(b"evil")] = release.manifest


def test_result_subclassed(tmp_path: Path) -> None:
    """A subclass could answer what it likes."""
    for kind in (VerifiedRelease, VerifiedContent):
        with pytest.raises(TypeError, match=MADE):
            type("Mine", (kind,), {})


def test_results_are_compared_by_identity(tmp_path: Path) -> None:
    """Two answers about the same release are two answers."""
    device, release, _ = answers(tmp_path)
    assert release != device.verify()
    assert len({release, device.verify()}) == 2


def test_fetch_with_a_release_of_another_store(tmp_path: Path) -> None:
    """An answer of one repository opens no door at another."""
    device, _, _ = answers(tmp_path / "one")
    other = World()
    other.release("1.0.0", content=b"another vendor's acme")
    other.publish()
    second = other.device(tmp_path / "two")
    release = second.verify()
    before = stands(device)
    with pytest.raises(ValueError, match="verified by another store"):
        device.verifier.fetch(release, device.staging)
    assert stands(device) == before


def modules_that_name(word: str) -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if word in text else ():
            names = {
                ast.ImportFrom: lambda one: {alias.name for alias in one.names},
                ast.Name: lambda one: {one.id},
                ast.Attribute: lambda one: {one.attr},
                ast.Constant: lambda one: {one.value},
            }.get(type(node), lambda _: set())(node)
            if word in names:
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


def test_the_seal_is_imported_by_the_verifier_alone() -> None:
    """Whoever holds the seal can make an answer: two modules do, and no star import."""
    assert modules_that_name("SEAL") == {"verify/results.py", "verify/verifier.py"}
    for path in PACKAGE.rglob("*.py"):
        assert "import *" not in path.read_text("utf-8"), path
