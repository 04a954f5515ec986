"""Who may write to an inbox, and holds no key of anybody, or only a vendor's: fills it,
hides what waits there, has it thrown away, or has it taken in parts.

Each test is first sane, then attacked, then says what the operator or vendor is told,
and ends with what is honest published.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring import allowances, history, submission_file
from margo_supplychain.authoring.history import KeyHistory
from margo_supplychain.authoring.inbox_order import in_order
from margo_supplychain.authoring.registry_inbox import RegistryInbox
from margo_supplychain.authoring.submission_file import Claim
from margo_supplychain.authoring.written import HandedIn
from margo_supplychain.errors import BudgetError, MetadataFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.tuf_metadata import parse_role, parse_targets
from margo_supplychain.formats.versions import Version
from tests.attacks.forging import (
    all_of,
    delegate,
    hand_in,
    listing,
    role,
    set_policy,
)
from tests.authoring.market import LAMP, PUMP, Market
from tests.authoring.submissions import Held, submission
from tests.authoring.tagged import HOST, MemoryRegistry
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from tuf.api.metadata import Targets

    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source

URL = f"{HOST}/plant/inbox"
JUNK = (
    b'{"signatures":[],"signed":{"_type":"targets","spec_version":"1.0.31","version":1,'
    b'"expires":"2027-01-01T00:00:00Z","targets":{}%s}}'
)


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def plant(
    market: Market, data: bytes, *, low: int | None = None, roles: int = 1
) -> str:
    """Put a submission into the inbox that nobody has signed; return its name."""
    files = tuple(
        parse_targets(data, role=f"acme.a{number:04}", limit=len(data))
        for number in range(roles)
    )
    name = market.inbox.put(replace(submission(), roles=files, targets=()))
    if low is None:
        return name
    path = market.inbox.directory / f"{name}.tar"
    return path.rename(path.with_name(f"{low:064x}.tar")).stem


# --- T-169: what waits is thrown away ------------------------------------------------


def test_second_tag_of_what_waits_is_thrown_away(market: Market) -> None:
    """Mallory tags an honest manifest a second time; thrown away as rubbish, it would
    take what it is with it."""
    registry = MemoryRegistry()
    inbox = RegistryInbox(registry.repository(URL))
    with market.submit("globex-ci", inbox=inbox) as edit:
        edit.add_release(market.release("1.1.0", name=LAMP))
    (honest,) = inbox.names().names
    held = registry.at(URL)
    evil = "0" * 64
    held.tags[evil] = held.tags[honest]
    done = market.repository.accept(
        inbox, [key("ci")], clock=market.clock, only=[evil], discard=True
    )
    assert [one.name for one in done.refused] == [evil]
    assert done.removed == ()
    assert any(f"a second tag of submission {honest[:12]}" in w for w in done.warnings)
    assert set(inbox.names().names) == {evil, honest}
    done = market.repository.accept(inbox, [key("ci")], clock=market.clock)
    assert market.newest(LAMP) == "1.1.0"
    assert done.removed == (honest,)
    assert inbox.names().names == ()


def test_rubbish_in_a_registry_is_thrown_away(market: Market) -> None:
    """What is no submission, or a second name of one that is not there, is cleared."""
    registry = MemoryRegistry()
    inbox = RegistryInbox(registry.repository(URL))
    name = inbox.put(submission())
    held = registry.at(URL)
    held.tags["0" * 64] = held.tags.pop(name)
    held.manifests["sha256:" + "1" * 64] = b"rubbish"
    held.tags["1" * 64] = str(Digest.of(b"rubbish"))
    held.manifests[held.tags["1" * 64]] = b"rubbish"
    done = market.repository.accept(
        inbox, [key("ci")], clock=market.clock, discard=True
    )
    assert done.removed == ("0" * 64, "1" * 64)
    assert inbox.names().names == ()


def test_what_is_no_file_fills_an_inbox(market: Market) -> None:
    """Directories, pipes and links have low names; they are passed over or cleared."""
    inbox = market.inbox.directory
    name = market.hand_in("1.1.0", LAMP)
    (inbox / f"{0:064x}.tar").mkdir()
    (inbox / f"{1:064x}.tar").symlink_to(market.directory)
    (inbox / f"{2:064x}.tar").symlink_to("/nowhere")
    os.mkfifo(inbox / f"{3:064x}.tar")
    rubbish = tuple(f"{number:064x}" for number in (1, 2, 3))
    assert market.inbox.names().names == (*rubbish, name)
    done = market.accept()
    assert [one.name for one in done.taken] == [name]
    assert market.newest(LAMP) == "1.1.0"
    assert {(one.name, one.code, one.is_open) for one in done.refused} == {
        (one, "malformed", False) for one in rubbish
    }
    done = market.accept(discard=True)
    assert set(done.removed) == set(rubbish)
    assert market.inbox.names() == ((), False)
    assert market.directory.is_dir()
    assert [one.name for one in inbox.iterdir()] == [f"{0:064x}.tar"]


# --- T-170: memory, and what hides a vendor's own ------------------------------------


class Counted:
    """Counts the roles that are read, and how many of them are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        before = parse_targets

        def parse(data: bytes, *, role: str, **options: Any) -> RoleFile[Targets]:
            self.read.append(role)
            return before(data, role=role, **options)

        monkeypatch.setattr(submission_file, "parse_targets", parse)


def test_roles_that_nobody_signed(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission of hundreds of roles is read as far as its first signature."""
    name = plant(market, JUNK % b"", roles=300)
    counted = Counted(monkeypatch)
    done = market.accept()
    assert [(one.name, one.publisher) for one in done.refused] == [(name, "acme")]
    assert set(counted.read) == {"acme.a0000"}
    market.hand_in("1.1.0")
    assert len(market.accept().taken) == 1


@pytest.mark.parametrize("junk", [b"{},", b"[],", b"1,", b'"":1,'])
def test_metadata_that_takes_thirty_times_its_size(market: Market, junk: bytes) -> None:
    more = b',"x-a":[%s1]' % (junk * 5_000)
    if junk.startswith(b'"'):
        keys = b"".join(b'"%x":{},' % number for number in range(5_000))
        more = b',"x-a":{%s"x":1}' % keys
    plant(market, JUNK % more)
    (found,) = market.accept().refused
    assert found.code == "malformed"
    assert "values in" in found.reason
    market.hand_in("1.1.0")
    assert len(market.accept().taken) == 1


def test_longest_list_of_shortest_names_is_read(market: Market) -> None:
    """What is honest is never that dense: one key for all, and names of one letter."""
    public = key("acme").public_key
    role_ = {
        "keyids": [public.keyid],
        "name": "a.b",
        "paths": ["a/releases/b/*"],
        "terminating": True,
        "threshold": 1,
    }
    text = ",".join([str(role_).replace("'", '"').replace("True", "true")] * 5_000)
    text = text.replace(" ", "")
    with pytest.raises(MetadataFormatError) as caught:
        parse_targets(
            JUNK % b',"delegations":{"keys":{},"roles":[%s]}' % text.encode(),
            role="a",
            limit=8 << 20,
            spread=12,
        )
    # Its name is there 5,000 times; the number of values is no matter.
    assert "values" not in str(caught.value)


def test_vendor_keeps_nothing_of_what_nobody_signed(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Globex hands in; what lies there under other names, is not even read."""
    for _ in range(3):
        plant(market, JUNK % b"", roles=50)
    plant(market, JUNK % b',"x-a":"2"', roles=50)
    counted = Counted(monkeypatch)
    with market.submit("globex-ci") as edit:
        edit.add_release(market.release("1.1.0", name=LAMP))
    assert not {one for one in counted.read if one.startswith("acme")}
    assert [one.publisher for one in market.accept().taken] == ["globex"]


def test_rubbish_hides_what_a_vendor_handed_in_before(market: Market) -> None:
    """A hundred files under low names, in the vendor's own name."""
    first = market.hand_in("1.1.0")
    for number in range(120):
        plant(market, JUNK % (b',"x-n":"%d"' % number), low=number)
    with market.submit("acme-ci") as edit:
        edit.add_release(market.release("1.2.0", name=PUMP))
    assert isinstance(edit.written, HandedIn)
    assert edit.written.after == (first,)
    told = [one for one in edit.warnings if "will be" in one]
    assert len(told) == 11
    done = market.accept()
    assert sorted(release for one in done.taken for release in one.releases) == [
        "acme/pump 1.1.0",
        "acme/pump 1.2.0",
    ]
    assert market.newest() == "1.2.0"


def test_rubbish_that_takes_a_vendors_time(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is an end to what is looked at, and that is said."""
    monkeypatch.setattr("margo_supplychain.authoring.pending.MOST_WASTED", 0.0)
    plant(market, JUNK % b"", low=0)
    plant(market, JUNK % b',"x-a":"2"', low=1)
    with market.submit("acme-ci") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert any("not all of it was looked at" in one for one in edit.warnings)
    assert len(market.accept().taken) == 1


# --- T-171: what belongs together is handed in in parts ------------------------------


def undone(
    market: Market,
) -> tuple[RoleFile[Targets], RoleFile[Targets], Mapping[str, bytes]]:
    """Let a thief publish 9.9.9; return what acme signs to undo it."""
    market.hand_in("9.9.9")
    market.accept()
    assert market.newest() == "9.9.9"
    policy = PublisherPolicy(
        epoch=2, provenance="none", minimum_version=Version.parse("0.1.0")
    )
    change, targets = set_policy(PUMP, policy)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][PUMP.release_path("9.9.9")]

    return role(market, "acme", change), role(market, PUMP.role, drop), targets


def test_whole_before_its_part(market: Market) -> None:
    """Mallory puts half of what waits beside it, under whatever name."""
    publisher, application, targets = undone(market)
    part = hand_in(market, publisher, targets=targets)
    whole = hand_in(market, publisher, application, targets=targets)
    done = market.accept()
    assert [one.name for one in done.taken] == [whole]
    assert [one.name for one in done.known] == [part]
    assert market.newest() == "1.0.0"


def test_order_of_parts() -> None:
    """Whatever holds all of another comes before it; junk and equals change nothing."""

    def claim(*roles: tuple[str, int]) -> Claim:
        return Claim("a", tuple((one, version, "") for one, version in roles))

    claims = {
        "1": claim(("a", 1)),
        "2": claim(("a", 1), ("a.b", 1)),
        "3": claim(("a", 1), ("a.b", 1), ("a.c", 1)),
        "4": claim(("a.b", 2)),
        "5": claim(("a", 1)),
        "6": claim(("a.c", 9), ("a.d", 1)),
        "7": claim(),
    }
    order = in_order([*"7654321", "x"], claims)
    assert order == ["7", "3", "2", "1", "5", "4", "6", "x"]


def test_part_that_is_taken_before_its_whole(market: Market) -> None:
    """The part was alone in the inbox when the operator looked."""
    publisher, application, targets = undone(market)
    hand_in(market, publisher, targets=targets)
    assert len(market.accept().taken) == 1
    market.hand_in("1.1.0", LAMP)
    assert len(market.accept().taken) == 1  # later snapshots list the same
    hand_in(market, publisher, application, targets=targets)
    done = market.accept()
    assert done.refused == ()
    assert [one.roles for one in done.taken] == [((PUMP.role, 3),)]
    assert market.newest() == "1.0.0"
    assert market.repository.check(clock=market.clock).violations == ()


def test_part_that_is_used_up(market: Market) -> None:
    """A thief of the application's key brings the part along again: its epoch has been
    used, and nothing more may leave."""
    publisher, application, targets = undone(market)
    hand_in(market, publisher, application, targets=targets)
    assert len(market.accept().taken) == 1
    market.hand_in("1.1.0")
    assert len(market.accept().taken) == 1

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][PUMP.release_path("1.0.0")]

    name = hand_in(market, publisher, role(market, PUMP.role, drop), targets=targets)
    (found,) = market.accept().refused
    assert found.name == name
    assert "releases leave only with a higher epoch" in found.reason
    assert market.newest() == "1.1.0"


def test_part_before_a_clean_up(market: Market) -> None:
    """Where nobody knows any more what stood then, what stands now decides."""
    publisher, application, targets = undone(market)
    hand_in(market, publisher, targets=targets)
    assert len(market.accept().taken) == 1
    for path in (market.trust / "metadata").glob("*.snapshot.json"):
        if path.name != max_snapshot(market):
            path.unlink()
    name = hand_in(market, publisher, application, targets=targets)
    (found,) = market.accept().refused
    assert (found.name, found.code) == (name, "refused")


def max_snapshot(market: Market) -> str:
    found = (market.trust / "metadata").glob("*.snapshot.json")
    return max(found, key=lambda path: int(path.name.partition(".")[0])).name


# --- T-172: what was never published is thrown away as if it had been ----------------


@pytest.mark.parametrize("is_signed", [True, False])
def test_file_that_a_killed_run_left(market: Market, *, is_signed: bool) -> None:
    """`accept` was killed after it wrote a role; another holder of the key, who could
    not know of it, went on, and took the next free version."""
    change, targets, blobs = listing(market, market.release("1.1.0", name=PUMP))
    lost = role(market, PUMP.role, change)
    first = hand_in(market, lost, targets=targets, blobs=blobs)
    if not is_signed:
        lost = role(market, PUMP.role, change, "mallory")
    left = market.trust / "metadata" / f"2.{PUMP.role}.json"
    left.write_bytes(lost.data)
    change, targets, blobs = listing(market, market.release("1.2.0", name=PUMP))
    later = role(market, PUMP.role, change, step=2)
    second = hand_in(market, later, targets=targets, blobs=blobs)
    assert [one.name for one in market.accept(only=[second]).taken] == [second]
    done = market.accept(discard=False)
    assert (done.taken, done.known, done.removed) == ((), (), ())
    assert "was made from an older state: v3 is published" in done.refused[0].reason
    assert market.inbox.names().names == (first,)
    market.hand_in("1.1.0")
    market.accept()
    assert market.newest() == "1.2.0"
    # Whatever it changed has been published by now, if that is its file.
    assert market.inbox.names().names == (() if is_signed else (first,))


def test_what_was_published_is_known_for_long(market: Market) -> None:
    """So an honest one that is put back is told from one that was lost."""
    name = market.hand_in("1.1.0")
    data = (market.inbox.directory / f"{name}.tar").read_bytes()
    market.accept()
    for version in ("1.2.0", "1.3.0"):
        market.hand_in(version)
        market.accept()
    (market.inbox.directory / f"{name}.tar").write_bytes(data)
    done = market.accept()
    assert [one.name for one in done.known] == [name]
    assert market.inbox.names().names == ()


def test_withdrawal_that_a_killed_run_left(market: Market) -> None:
    """Nothing but a mark was lost: the list holds all releases, and it is said."""

    def mark(signed: dict[str, Any]) -> None:
        custom = signed["targets"][PUMP.release_path("1.0.0")]["custom"]
        custom["withdrawn"] = {"reason": "leaks", "since": "2026-11-21T10:00:00Z"}

    lost = role(market, PUMP.role, mark)
    first = hand_in(market, lost)
    (market.trust / "metadata" / f"2.{PUMP.role}.json").write_bytes(lost.data)
    change, targets, blobs = listing(market, market.release("1.2.0", name=PUMP))
    later = role(market, PUMP.role, change, step=2)
    second = hand_in(market, later, targets=targets, blobs=blobs)
    assert [one.name for one in market.accept(only=[second]).taken] == [second]
    done = market.accept()
    assert (done.taken, done.known, done.removed) == ((), (), ())
    assert [one.name for one in done.refused] == [first]
    assert "was made from an older state" in done.refused[0].reason


# --- T-173: work that grows with what a vendor has signed before ---------------------


def add_applications(market: Market, *names: str) -> str:
    """Hand in new applications, each with its own key."""
    changes, targets = [], dict[str, bytes]()
    for name in names:
        policy, more = set_policy(replace(PUMP, name=name), OPEN)
        changes += [policy, delegate(f"acme.{name}", f"ci-{name}")]
        targets |= more
    return hand_in(market, role(market, "acme", all_of(*changes)), targets=targets)


def test_old_versions_are_read_once(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each new application every old version was read again, inside the lock."""
    for number in range(3):
        add_applications(market, f"old-{number}")
        assert len(market.accept().taken) == 1
    read: list[str] = []

    def parse(data: bytes, *, role: str, limit: int) -> RoleFile[Any]:
        read.append(role)
        return parse_role(data, role=role, limit=limit)

    monkeypatch.setattr(history, "parse_role", parse)
    add_applications(market, *(f"new-{number}" for number in range(20)))
    assert len(market.accept().taken) == 1
    assert read == ["acme"] * 4


def test_old_versions_that_take_too_long(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who made them so keeps nobody else waiting, and may be taken another time."""
    for number in range(3):
        add_applications(market, f"old-{number}")
        assert len(market.accept().taken) == 1
    name = add_applications(market, "new-1")
    market.hand_in("1.1.0", LAMP)
    ends = functools.partial(KeyHistory, most_time=0.0)
    with monkeypatch.context() as patched:
        patched.setattr("margo_supplychain.authoring.prospect.KeyHistory", ends)
        done = market.accept()
    assert [one.publisher for one in done.taken] == ["globex"]
    assert [(one.name, one.code, one.is_open) for one in done.refused] == [
        (name, "budget", True)
    ]
    assert "take longer to look through" in done.refused[0].reason
    assert [one.name for one in market.accept().taken] == [name]


class Registry:
    """A vendor's registry, which somebody counts; implements `ContentSources`."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.asked = 0

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        del locations
        self.asked += 1
        return [Held(self.held)]


def hand_in_located(market: Market, registry: Registry, *versions: str) -> str:
    """Hand in releases whose content lies in acme's registry."""
    changes, targets = [], dict[str, bytes]()
    for version in versions:
        made = market.release(version, name=PUMP)
        made = replace(made, locations=("oci://registry.example/acme/pump",))
        change, more, blobs = listing(market, made)
        changes.append(change)
        targets |= more
        registry.held += blobs
    return hand_in(market, role(market, PUMP.role, all_of(*changes)), targets=targets)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MOST_TIME", 0.0, "took longer than"),
        ("MOST_TIME_IN_ALL", 0.0, "took longer than"),
        ("MAX_FETCHED", 1_500, "read more than its"),
    ],
)
def test_registry_of_a_vendor_that_keeps_others_waiting(
    market: Market, limit: str, value: float, reason: str
) -> None:
    """Each release had an hour of its own, with the repository locked."""
    registry = Registry()
    name = hand_in_located(market, registry, *(f"2.{n}.0" for n in range(5)))
    market.hand_in("1.1.0", LAMP)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(allowances, limit, value)
        done = market.accept(content=registry)
    assert [one.publisher for one in done.taken] == ["globex"]
    assert [(one.name, one.code, one.is_open) for one in done.refused] == [
        (name, "budget", True)
    ]
    assert reason in done.refused[0].reason
    assert registry.asked < 5
    assert market.newest(LAMP) == "1.1.0"
    assert market.newest() == "1.0.0"
    assert [one.name for one in market.accept(content=registry).taken] == [name]
    assert market.newest() == "2.4.0"


def test_allowance_is_of_one_vendor() -> None:
    """What one has used up, is taken off his next submission, and from nobody else's
    bytes."""
    left = allowances.Allowances()
    with left.of("acme") as one:
        one.spend(allowances.MAX_FETCHED)
    with left.of("acme") as one, pytest.raises(BudgetError):
        one.spend(1)
    with left.of("globex") as one:
        one.spend(allowances.MAX_FETCHED)
        one.check()
