"""Mallory has an online key of an operator, and writes where his repository is served:
she hides what was published, publishes what was not, floods and plants. The ceremony
that takes her key away must not be led by what she left."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import adopting
from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.evidence import COUNTED
from margo_supplychain.authoring.lying import SANE
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    RollbackError,
    SupplyChainError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.times import parse_time
from margo_supplychain.verify.limits import Limits
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.authoring.written import Written
    from margo_supplychain.verify.trust_store import TrustStore

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def operator(tmp_path: Path) -> Vendor:
    found = Vendor(tmp_path)
    found.create_with_pump()
    found.publish("1.0.0")
    return found


def newest(operator: Vendor, store: TrustStore | None = None) -> str:
    return str(operator.device(store).verify(PUMP, ANY).version)


def sound(operator: Vendor, store: TrustStore | None = None) -> None:
    report = operator.repository.check(clock=operator.clock, state=store)
    assert report.violations == ()


def replaced(
    operator: Vendor, keys: list[str], state: TrustStore | None = None, **changes: Any
) -> Written:
    root = signed_root(
        operator.repository, ["offline"], clock=operator.clock, state=state, **changes
    )
    return operator.repository.adopt_root(
        root, [key(one) for one in keys], clock=operator.clock, state=state
    )


def replace_online(operator: Vendor, state: TrustStore | None = None) -> Written:
    """Replace the keys of snapshot and timestamp, which are not at hand any more."""
    new = keys_of("ci-2")
    return replaced(operator, ["ci-2"], state, snapshot=new, timestamp=new)


def told(written: Written, text: str) -> bool:
    return any(text in one for one in written.warnings)


class Killed(BaseException):
    """The machine went off."""


@contextmanager
def cut_short() -> Iterator[None]:
    """Let an edit be killed at the last moment before it is published."""

    def die(place: DirectoryPlace, work: object) -> None:
        del place, work
        raise Killed

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(DirectoryPlace, "commit", die)
        yield


# --- hidden: she has the timestamp key alone ------------------------------------------


def hide_newest_snapshot(operator: Vendor) -> None:
    """Name a snapshot that does not exist, and take the newest away."""
    newest = operator.version("snapshot")
    now = operator.signed("timestamp.json")
    now["version"] = thief.HIGHEST
    now["meta"]["snapshot.json"] = thief.entry(thief.HIGHEST, b"there is none")
    stolen = thief.signed_as("timestamp", now, "ts")
    thief.write(operator, {"timestamp.json": stolen})
    (operator.trust / f"metadata/{newest}.snapshot.json").unlink()


@pytest.mark.parametrize("remembers", [True, False])
def test_newest_snapshot_is_hidden(operator: Vendor, remembers: bool) -> None:
    """The author's memory brings it back. Without one nobody can tell that it was: who
    is asked to adopt the root is told what is missing, and what lies there unlisted."""
    replaced(operator, ["ts", "ci"], timestamp=keys_of("ts"))
    author = operator.store("author/state")
    keys = [key("ci"), key("ts")]
    operator.publish("1.1.0", keys=keys, state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    hide_newest_snapshot(operator)
    with pytest.raises(FetchError):
        newest(operator)
    memory = author if remembers else None
    done = replaced(operator, ["ts-2"], memory, timestamp=keys_of("ts-2"))
    if remembers:
        assert newest(operator, device) == newest(operator) == "1.1.0"
        sound(operator, author)
        return
    assert told(done, f"names snapshot v{thief.HIGHEST}, which is not there")
    assert told(
        done, "acme.pump-monitor v3 lies there, signed by its keys, and no list"
    )
    assert newest(operator) == "1.0.0"
    with pytest.raises(RollbackError):
        newest(operator, device)  # it keeps 1.1.0 until that is published again
    operator.publish("1.2.0", keys=[key("ci"), key("ts-2")])
    assert newest(operator, device) == newest(operator) == "1.2.0"


def test_name_of_the_hidden_snapshot_is_taken(operator: Vendor) -> None:
    """Her own bytes have its name: what the memory brings back is written over them."""
    replaced(operator, ["ts", "ci"], timestamp=keys_of("ts"))
    author = operator.store("author/state")
    keys = [key("ci"), key("ts")]
    operator.publish("1.1.0", keys=keys, state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    taken = f"{operator.version('snapshot')}.snapshot.json"
    hide_newest_snapshot(operator)
    junk = {taken: b"{}", "3.acme.pump-monitor.json": b"{}"}
    thief.write(operator, junk)
    with pytest.raises(SupplyChainError):
        newest(operator)
    replaced(operator, ["ts-2"], author, timestamp=keys_of("ts-2"))
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, author)


# --- never published: what a killed edit left ----------------------------------------


@pytest.mark.parametrize("remembers", [True, False])
def test_what_a_killed_edit_left_is_not_published(
    operator: Vendor, remembers: bool
) -> None:
    """She provokes a new root, and what an author began and never published lies there,
    signed: it stays unpublished, and the author hears of it."""
    author = operator.store("author/state")
    with operator.repository.edit(
        operator.keys, clock=operator.clock, state=author
    ) as edit:
        edit.refresh()
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    with cut_short():
        operator.publish("6.6.6")
    assert newest(operator) == "1.0.0"
    memory = author if remembers else None
    done = replaced(operator, ["ts-2"], memory, timestamp=keys_of("ts-2"))
    assert told(done, "the edit that made it was cut short before it was published")
    assert told(done, "new in it: acme.pump-monitor v3, so run that edit again")
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)
    # Nor does the next ceremony publish it, whoever provokes that.
    replaced(operator, ["ts-3"], memory, timestamp=keys_of("ts-3"))
    assert newest(operator, device) == newest(operator) == "1.0.0"
    operator.publish("1.1.0", keys=[key("ci"), key("ts-3")])
    assert newest(operator, device) == newest(operator) == "1.1.0"
    with pytest.raises(SupplyChainError):
        operator.device().verify(PUMP, Pin.parse_argument("6.6.6"))
    sound(operator, device)


def test_older_snapshot_is_named_by_a_stolen_timestamp_key(operator: Vendor) -> None:
    """The same files, but she named the older snapshot: what was published stands."""
    replaced(operator, ["ts", "ci"], timestamp=keys_of("ts"))
    before = operator.signed("timestamp.json")["meta"]
    operator.publish("1.1.0", keys=[key("ci"), key("ts")])
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    now = operator.signed("timestamp.json")
    now["version"], now["meta"] = now["version"] + 1, before
    stolen = thief.signed_as("timestamp", now, "ts")
    thief.write(operator, {"timestamp.json": stolen})
    assert newest(operator) == "1.0.0"
    done = replaced(operator, ["ts-2"], timestamp=keys_of("ts-2"))
    assert told(done, "no timestamp that is left names snapshot v")
    assert told(done, "new in it: acme.pump-monitor v3")
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, device)


# --- flooded and planted: she has the keys of snapshot and timestamp -----------------


def flood(operator: Vendor, prefix: str, many: int) -> dict[str, dict[str, Any]]:
    """Let files of no role lie there; return what lists them."""
    one = operator.trust / f"metadata/1.{prefix}.json"
    one.write_bytes(b"{}")
    found = {}
    for number in range(many):
        name = f"{prefix}{number:05d}"
        os.link(one, operator.trust / f"metadata/1.{name}.json")
        found[f"{name}.json"] = thief.entry(1, b"{}")
    return found


def lengthen(
    meta: dict[str, dict[str, Any]], *, more: dict[str, dict[str, Any]]
) -> None:
    meta.update(more)


def test_flood_of_roles(operator: Vendor) -> None:
    """What all her snapshots list is together more than a snapshot may hold."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    honest = (operator.trust / "metadata/timestamp.json").read_bytes()
    size = 0
    for version in range(50, 54):
        # Each from the honest list: united they are what is too large.
        thief.write(operator, {"timestamp.json": honest})
        listed = flood(operator, f"mallory-{version}-{'x' * 180}.y", 7000)
        change = partial(lengthen, more=listed)
        files = thief.forge(
            operator, timestamp=version, snapshot=version, change=change
        )
        size += len(files[f"{version}.snapshot.json"])
        thief.write(operator, files)
    assert size > Limits().snapshot  # sane
    done = replace_online(operator)
    assert told(done, "and 6997 more, and nobody ever delegated to that")
    assert len(done.warnings) < 10
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)
    listed_now = operator.signed(f"{operator.version('snapshot')}.snapshot.json")
    assert not [one for one in listed_now["meta"] if "mallory" in one]


def test_name_of_an_application_that_comes_later(operator: Vendor) -> None:
    """A file of a role that nobody delegates to yet is none of the new list's."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    signed = operator.signed("1.acme.json")
    signed["version"] = SANE
    planted = thief.signed_as("acme.valve", signed, "mallory")
    thief.write(operator, {f"{SANE}.acme.valve.json": planted})
    entry = thief.entry(SANE, planted)

    def list_it(meta: dict[str, dict[str, Any]]) -> None:
        meta["acme.valve.json"] = entry

    thief.write(operator, thief.forge(operator, change=list_it))
    done = replace_online(operator)
    assert told(done, "snapshot listed acme.valve, and nobody ever delegated to that")
    keys = [key("offline"), key("ci"), key("ci-2")]
    with operator.repository.edit(keys, clock=operator.clock) as edit:
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
    assert operator.version("acme.valve") == 1
    assert newest(operator, device) == "1.0.0"
    sound(operator, device)


def well_formed(operator: Vendor) -> bytes:
    signed = operator.signed("2.acme.pump-monitor.json")
    signed["version"] = 9
    signed["targets"] = {}
    return thief.signed_as("acme.pump-monitor", signed, "mallory")


@pytest.mark.parametrize("made", [lambda _: b"{}", well_formed])
def test_rubbish_in_the_place_of_a_role(
    operator: Vendor, made: Callable[[Vendor], bytes]
) -> None:
    """She removes an application's files and lists her own: the list has nothing of
    it, so its holder publishes again, and nobody has to remove the application."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    data = made(operator)
    for path in (operator.trust / "metadata").glob("*.acme.pump-monitor.json"):
        path.unlink()
    thief.write(operator, {"9.acme.pump-monitor.json": data})
    entry = thief.entry(9, data)

    def list_it(meta: dict[str, dict[str, Any]]) -> None:
        meta["acme.pump-monitor.json"] = entry

    thief.write(operator, thief.forge(operator, change=list_it))
    with pytest.raises(SupplyChainError):
        newest(operator)
    done = replace_online(operator)
    assert told(done, "snapshot listed acme.pump-monitor v9, and nothing that its keys")
    operator.publish("1.1.0", keys=[key("ci"), key("ci-2")])
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, device)


def test_removed_application_is_not_forgotten(operator: Vendor) -> None:
    """What its keys signed once stays listed, though nobody delegates to it now: who
    comes back under that name goes on counting."""
    with operator.repository.edit(operator.keys, clock=operator.clock) as edit:
        edit.add_application(VALVE, [key("valve").public_key], policy=OPEN)
    with operator.repository.edit(
        [*operator.keys, key("valve")], clock=operator.clock
    ) as edit:
        edit.refresh("acme.valve")
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    with operator.repository.edit(operator.keys, clock=operator.clock) as edit:
        edit.remove_application(VALVE)
    before = operator.signed(f"{operator.version('snapshot')}.snapshot.json")["meta"]
    thief.write(operator, thief.forge(operator))
    replace_online(operator)
    after = operator.signed(f"{operator.version('snapshot')}.snapshot.json")["meta"]
    assert before == after
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)


# --- what lies where the next root belongs -------------------------------------------


def too_large(path: Path) -> None:
    path.write_bytes(b"x" * (Limits().root + 1))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("made", [too_large, pipe, link, link_to_nothing])
def test_what_nobody_can_read_in_the_place_of_the_next_root(
    operator: Vendor, made: Callable[[Path], None]
) -> None:
    """Devices stop there, so that the root that would take her key away never comes:
    it is written over what she put there."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    root = signed_root(operator.repository, ["offline"], clock=operator.clock)
    path = operator.trust / "metadata/2.root.json"
    made(path)
    with pytest.raises(SupplyChainError):
        newest(operator, device)
    operator.repository.adopt_root(root, operator.keys, clock=operator.clock)
    assert path.is_file()
    assert not path.is_symlink()
    assert path.read_bytes() == root.data
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)


def test_directory_in_the_place_of_the_next_root(operator: Vendor) -> None:
    """Nothing is written before somebody has looked at it; the way on is named."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    root = signed_root(operator.repository, ["offline"], clock=operator.clock)
    path = operator.trust / "metadata/2.root.json"
    path.mkdir()
    before = operator.files()
    with pytest.raises(RefusedError, match=r"2\.root\.json is a directory") as caught:
        operator.repository.adopt_root(root, operator.keys, clock=operator.clock)
    assert "remove it" in str(caught.value.hint)
    assert operator.files() == before
    path.rmdir()
    operator.repository.adopt_root(root, operator.keys, clock=operator.clock)
    assert newest(operator, device) == "1.0.0"
    sound(operator, device)


# --- versions and times --------------------------------------------------------------


@pytest.mark.parametrize("version", [COUNTED, COUNTED + 1, SANE])
def test_highest_version_that_is_sane(operator: Vendor, version: int) -> None:
    """Counted on from there, every later rotation would count as a theft."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    thief.write(operator, thief.forge(operator, timestamp=version, snapshot=version))
    assert newest(operator, device) == "1.0.0"
    replace_online(operator)
    assert newest(operator, device) == "1.0.0"
    assert operator.version("timestamp") <= COUNTED + 1
    next_keys = keys_of("ci-3")
    root = signed_root(
        operator.repository,
        ["offline"],
        clock=operator.clock,
        snapshot=next_keys,
        timestamp=next_keys,
    )
    gaps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adopting, "replace_keys", lambda *_, **__: gaps.append(1))
        operator.repository.adopt_root(
            root, [key("ci-2"), key("ci-3")], clock=operator.clock
        )
    assert gaps == []
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)


@pytest.mark.parametrize("keys", [["ci"], ["ci-2"]])
def test_root_whose_time_is_ahead_of_a_timestamp(
    operator: Vendor, keys: list[str]
) -> None:
    """Devices take the time of a root for the least that it is: a timestamp that ends
    before would end with its adoption. It is signed again with the root."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.0.0"  # sane
    end = parse_time(operator.signed("timestamp.json")["expires"], what="its end")
    operator.clock.when = end + timedelta(minutes=5)  # whoever proposes is ahead
    changes: dict[str, Any] = {}
    if keys == ["ci-2"]:
        changes = {"snapshot": keys_of("ci-2"), "timestamp": keys_of("ci-2")}
    root = signed_root(
        operator.repository, ["offline"], clock=operator.clock, **changes
    )
    operator.clock.when = end - timedelta(minutes=45)
    assert newest(operator, device) == "1.0.0"  # sane: it has not expired yet
    done = operator.repository.adopt_root(
        root, [key(one) for one in keys], clock=operator.clock
    )
    assert "timestamp" in done.roles
    assert newest(operator, device) == newest(operator) == "1.0.0"
    operator.clock.when = end + timedelta(minutes=6)
    assert newest(operator, device) == newest(operator) == "1.0.0"
    sound(operator, device)
