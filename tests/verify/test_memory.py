"""The memory as a value: what it writes it reads, and what falls, falls together."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import BudgetError, FormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import Reinstatement
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify import memory as module
from margo_supplychain.verify.memory import (
    MAX_FETCHED,
    MAX_WITHDRAWN,
    FetchedRelease,
    FileFloor,
    Memory,
    ReleaseFloor,
    SnapshotFloor,
    TimeFloor,
    TimestampFloor,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PUMP = ReleaseName.parse("acme/pump-monitor")
VALVE = ReleaseName.parse("acme/valve")
WHEN = datetime(2026, 11, 21, 10, tzinfo=UTC)
KEYS = frozenset({"k1", "k2"})


def digest(text: str = "") -> Digest:
    return Digest.of(text.encode())


def floor(version: str, epoch: int = 1, text: str = "") -> ReleaseFloor:
    return ReleaseFloor(
        epoch=epoch,
        version=Version.parse(version),
        artifact=digest(text or version),
        policy_signers=KEYS,
    )


def fetched(name: ReleaseName = PUMP, text: str = "") -> FetchedRelease:
    return FetchedRelease(
        name=name,
        version=Version.parse("1.0.0"),
        artifact=digest(text),
        epoch=1,
        slot="default",
        policy_signers=KEYS,
    )


def full() -> Memory:
    return Memory(
        root=b"{}",
        publishers=frozenset({"acme"}),
        timestamp=TimestampFloor(
            version=3, sha256="a", snapshot_version=2, signers=KEYS
        ),
        snapshot=SnapshotFloor(
            version=2, sha256="b", roles={"acme.json": FileFloor(1, "c")}, signers=KEYS
        ),
        root_time=TimeFloor(WHEN, KEYS),
        timestamp_time=TimeFloor(WHEN + timedelta(days=1), KEYS),
        releases={"default": {PUMP: floor("1.0.0")}},
        withdrawn={PUMP: {digest("bad"): 7}},
        reinstated={PUMP: {digest("bad"): 6}},
        fetched=(fetched(), fetched(VALVE)._replace(passed=floor("0.9.0"))),
        sequence=12,
    )


# --- round trip ----------------------------------------------------------------------

whole = st.integers(min_value=0, max_value=(1 << 53) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
signers = st.frozensets(texts, max_size=3)
digests = st.binary(max_size=4).map(Digest.of)
versions = st.sampled_from(["0.0.0", "1.2.3", "1.0.0-rc.1", "1.0.0+b"]).map(
    Version.parse
)
names = st.sampled_from([PUMP, VALVE, ReleaseName.parse("bolt/a.b_c-1")])
floors = st.builds(
    ReleaseFloor,
    epoch=whole,
    version=versions,
    artifact=digests,
    policy_signers=signers,
    serial=whole,
)
times = st.none() | st.builds(
    TimeFloor,
    st.integers(min_value=0, max_value=10**9).map(
        lambda seconds: WHEN + timedelta(seconds=seconds)
    ),
    signers,
)
seen = st.dictionaries(names, st.dictionaries(digests, whole, max_size=3), max_size=3)
memories = st.builds(
    Memory,
    root=st.binary(max_size=50),
    publishers=st.frozensets(st.sampled_from(["acme", "bolt", "c-3"]), min_size=1),
    timestamp=st.none()
    | st.builds(
        TimestampFloor,
        version=whole,
        sha256=texts,
        snapshot_version=whole,
        signers=signers,
    ),
    snapshot=st.none()
    | st.builds(
        SnapshotFloor,
        version=whole,
        sha256=texts,
        roles=st.dictionaries(
            texts, st.builds(FileFloor, whole, st.none() | texts), max_size=3
        ),
        signers=signers,
    ),
    root_time=times,
    timestamp_time=times,
    releases=st.dictionaries(
        st.sampled_from(["default", "line-2", "A.b_c"]),
        st.dictionaries(names, floors, max_size=2),
        max_size=3,
    ),
    withdrawn=seen,
    reinstated=seen,
    fetched=st.lists(
        st.builds(
            FetchedRelease,
            name=names,
            version=versions,
            artifact=digests,
            epoch=whole,
            slot=st.sampled_from(["default", "line-2"]),
            policy_signers=signers,
            passed=st.none() | floors,
        ),
        max_size=3,
    ).map(tuple),
    sequence=whole,
)


@given(memories)
def test_a_memory_reads_what_it_wrote(memory: Memory) -> None:
    data = memory.to_bytes()
    assert Memory.from_bytes(data) == memory
    assert Memory.from_bytes(data).to_bytes() == data


@given(st.data())
def test_any_other_byte_is_noticed(data: st.DataObject) -> None:
    good = full().to_bytes()
    at = data.draw(st.integers(min_value=0, max_value=len(good) - 1))
    other = data.draw(st.integers(min_value=1, max_value=255))
    bad = good[:at] + bytes([good[at] ^ other]) + good[at + 1 :]
    with pytest.raises(FormatError):
        Memory.from_bytes(bad)
    with pytest.raises(FormatError):
        Memory.from_bytes(good[:at])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_memory(data: bytes) -> None:
    for bad in (data, checksummed(data)):
        with pytest.raises(FormatError):
            Memory.from_bytes(bad)


def checksummed(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    raw = json.loads(full().to_bytes().partition(b"\n")[2])
    change(raw)
    return checksummed(json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda raw: raw.update(format=2), "has format 2, expected 1"),
        (lambda raw: raw.pop("format"), "has format None"),
        (lambda raw: raw.pop("sequence"), "is incomplete: KeyError"),
        (lambda raw: raw.pop("reinstated"), "is incomplete: KeyError"),
        (lambda raw: raw.update(sequence=-1), "holds -1, expected a whole number"),
        (lambda raw: raw.update(sequence=True), "holds True, expected a whole"),
        (lambda raw: raw.update(root="*"), "is incomplete: Error"),
        (lambda raw: raw.update(publishers=["ROOT"]), "is not a name"),
        (lambda raw: raw.update(publishers=3), "is incomplete: TypeError"),
        (lambda raw: raw.update(publishers=[]), "names no publisher"),
        (lambda raw: raw.update(releases=[]), "is incomplete: AttributeError"),
        (lambda raw: raw.update(releases={"..": {}}), "is not a name"),
        (lambda raw: raw["timestamp"].update(sha256=1), "holds 1, expected text"),
        (lambda raw: raw["snapshot"].update(roles={"x": [1]}), "ValueError"),
        (lambda raw: raw["times"]["root"].update(when="now"), "time floor"),
    ],
)
def test_a_memory_that_lacks_something(
    change: Callable[[dict[str, Any]], None], match: str
) -> None:
    with pytest.raises(FormatError, match=match):
        Memory.from_bytes(changed(change))
    assert Memory.from_bytes(changed(lambda _: None)) == full()


def test_a_memory_for_anybody_is_not_written_down() -> None:
    with pytest.raises(ValueError, match="for anybody is not written down"):
        replace(full(), publishers=None).to_bytes()


def test_a_memory_with_a_value_that_no_reader_takes() -> None:
    """Numbers beyond 2^53 - 1 would be refused at the next start."""
    with pytest.raises(BudgetError, match="or could not be read back"):
        replace(full(), sequence=1 << 53).to_bytes()


def test_a_memory_that_could_not_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(full().to_bytes().partition(b"\n")[2])
    monkeypatch.setattr(module, "LIMIT", size)
    data = full().to_bytes()
    assert Memory.from_bytes(data) == full()
    monkeypatch.setattr(module, "LIMIT", size - 1)
    with pytest.raises(
        BudgetError, match=rf"\(at most {size - 1}\), or could not be read back"
    ):
        full().to_bytes()


# --- metadata floors -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallen", "gone"),
    [
        ("root", {"root_time"}),
        ("timestamp", {"timestamp", "timestamp_time"}),
        ("snapshot", {"snapshot"}),
        ("targets", set()),
    ],
)
def test_floors_fall_with_their_own_keys_alone(fallen: str, gone: set[str]) -> None:
    asked = []

    def still_trusted(role: str, found: frozenset[str]) -> bool:
        asked.append(found)
        return role != fallen

    before = full()
    none: dict[str, Any] = dict.fromkeys(gone)
    assert before.without_fallen(still_trusted) == replace(before, **none)
    assert set(asked) == {KEYS}
    empty = Memory(root=b"", publishers=None)
    assert empty.without_fallen(still_trusted) == empty


def test_the_latest_signed_time_counts() -> None:
    assert full().time_floor == WHEN + timedelta(days=1)
    assert replace(full(), timestamp_time=None).time_floor == WHEN
    assert replace(full(), timestamp_time=None, root_time=None).time_floor is None


# --- release floors ------------------------------------------------------------------


def test_a_fresh_slot_takes_the_lowest_floor_of_the_others() -> None:
    memory = replace(full(), releases={})
    assert memory.floor(PUMP, "new") is None
    memory = memory.with_floor(PUMP, "a", floor("9.0.0", epoch=1))
    memory = memory.with_floor(PUMP, "b", floor("1.0.0", epoch=2))
    memory = memory.with_floor(VALVE, "c", floor("0.1.0", epoch=1))
    assert memory.floor(PUMP, "new") == floor("9.0.0", epoch=1)
    assert memory.floor(PUMP, "c") == floor("9.0.0", epoch=1)
    assert memory.floor(PUMP, "b") == floor("1.0.0", epoch=2)
    memory = memory.with_floor(PUMP, "b", floor("1.1.0", epoch=2))
    assert memory.floor(PUMP, "b") == floor("1.1.0", epoch=2)
    assert memory.floor(VALVE, "c") == floor("0.1.0", epoch=1)


def test_the_oldest_fetched_release_is_forgotten() -> None:
    memory = replace(full(), fetched=())
    for number in range(MAX_FETCHED + 10):
        memory = memory.with_fetched(fetched(text=str(number)))
    assert len(memory.fetched) == MAX_FETCHED
    assert memory.fetched[0] == fetched(text="10")
    memory = memory.with_fetched(fetched(text="10"))
    assert memory.fetched[0] == fetched(text="11")
    assert memory.fetched[-1] == fetched(text="10")
    memory = memory.with_fetched(fetched(VALVE, text="10"))
    assert [one.name for one in memory.fetched[-2:]] == [PUMP, VALVE]


# --- withdrawals ---------------------------------------------------------------------


def test_withdrawals_are_never_forgotten() -> None:
    bad, worse = digest("bad"), digest("worse")
    memory = replace(full(), withdrawn={}, reinstated={})
    assert memory.with_withdrawn(PUMP, frozenset(), 1) is memory
    memory = memory.with_withdrawn(PUMP, frozenset({bad}), 5)
    assert memory.with_withdrawn(PUMP, frozenset({bad}), 4) is memory
    memory = memory.with_withdrawn(PUMP, frozenset({worse}), 6)
    memory = memory.with_withdrawn(PUMP, frozenset({bad}), 8)
    assert memory.withdrawn == {PUMP: {bad: 8, worse: 6}}
    assert memory.stands_withdrawn(PUMP, bad)
    assert not memory.stands_withdrawn(VALVE, bad)
    assert not memory.stands_withdrawn(PUMP, digest("good"))


def test_reinstated_up_to_a_version_of_the_role() -> None:
    bad = digest("bad")
    memory = replace(full(), reinstated={})
    for up_to, stands in ((6, True), (7, False), (8, False)):
        after = memory.with_reinstated(PUMP, [Reinstatement(artifact=bad, up_to=up_to)])
        assert after.stands_withdrawn(PUMP, bad) is stands
        assert after.with_reinstated(PUMP, []).stands_withdrawn(PUMP, bad)
    # Of what was never seen withdrawn nothing is kept.
    other = Reinstatement(artifact=digest("other"), up_to=9)
    assert memory.with_reinstated(PUMP, [other]) is memory
    assert memory.with_reinstated(VALVE, [other]) is memory


def test_more_withdrawals_than_a_memory_takes() -> None:
    memory = replace(full(), withdrawn={})
    many = frozenset(digest(str(number)) for number in range(MAX_WITHDRAWN))
    memory = memory.with_withdrawn(PUMP, many, 1)
    assert memory.with_withdrawn(PUMP, many, 2).withdrawn[PUMP].keys() == many
    with pytest.raises(BudgetError, match="acme/pump-monitor has more than 10000 with"):
        memory.with_withdrawn(PUMP, frozenset({digest("one more")}), 2)
    assert memory.with_withdrawn(VALVE, frozenset({digest("x")}), 1) != memory
