"""T-117 to T-119: hostile tars in an inbox, full inboxes, what a vendor is shown."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.submission import Base
from margo_supplychain.authoring.submission_file import open_submission
from margo_supplychain.errors import DigestMismatchError, RefusedError, RollbackError
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.market import LAMP, PUMP, Market
from tests.authoring.submissions import Held, role_file, submission, tar_of, who_signs
from tests.authoring.trust import NOW, key
from tests.formats.tars import END, padded, raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = 512


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def plant(market: Market, data: bytes) -> str:
    """Put bytes into the inbox, under the name that they have."""
    name = hashlib.sha256(data).hexdigest()
    (market.inbox.directory / f"{name}.tar").write_bytes(data)
    return name


def honest(market: Market) -> bytes:
    """Return the tar of a release that acme hands in, and take it out again."""
    name = market.hand_in("1.1.0")
    path = market.inbox.directory / f"{name}.tar"
    data = path.read_bytes()
    path.unlink()
    return data


def with_list(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a tar with another list, as if its maker had written it so."""
    size = int(data[124:135], 8)
    listed = json.loads(data[HEAD : HEAD + size])
    change(listed)
    text = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    rest = data[HEAD + size + -size % HEAD :]
    header = raw(b"submission.json", size=len(text))
    return header + padded(text) + rest


def refused_alone(market: Market, bad: bytes, match: str) -> None:
    """What is hostile is refused, and what is honest beside it is published."""
    before = market.files()
    name = plant(market, bad)
    done = market.accept()
    ((refused, reason),) = [(one.name, one.reason) for one in done.refused]
    assert refused == name
    assert match in reason
    assert done.taken == ()
    # Nothing moved.
    assert market.files() == before
    assert market.newest() == "1.0.0"
    market.hand_in("1.0.1", LAMP)
    assert [one.publisher for one in market.accept().taken] == ["globex"]
    assert market.newest(LAMP) == "1.0.1"
    assert market.newest() == "1.0.0"


# --- T-117 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (raw(b"submission.json", size=2) + padded(b"{}"), "bytes, expected"),
        (raw(b"../../metadata/timestamp.json", size=2) + padded(b"{}"), "expected"),
        (raw(b"blobs/sha256/x", b"2", link=b"/etc/passwd"), "bytes, expected"),
    ],
)
def test_tar_with_more_in_it(market: Market, more: bytes, text: str) -> None:
    """Mallory appends what another reader would take; nobody looks at it."""
    good = honest(market)
    refused_alone(market, good.removesuffix(END) + more + END, text)


def test_tar_with_something_after_its_end(market: Market) -> None:
    refused_alone(market, honest(market) + bytes(512), "bytes, expected")


def test_tar_that_is_cut(market: Market) -> None:
    good = honest(market)
    refused_alone(market, good[:-1], "bytes, expected")


def test_tar_that_is_compressed(market: Market) -> None:
    """Zeros that expand without end would fill the operator's disk."""
    refused_alone(market, gzip.compress(honest(market)), "does not begin with")


@pytest.mark.parametrize(
    "header",
    [
        raw(b"submission.json", b"2", link=b"/etc/passwd"),
        raw(b"submission.json", size=b"00000000400 "),
        raw(b"./submission.json", size=256),
        raw(b"submission.json", size=b"\x80" + bytes(10) + b"\x08"),
        raw(b"submission.json", size=256, magic=b"ustar  \x00"),
        raw(b"submission.json", size=256, mode=b"0000777\0"),
    ],
)
def test_header_that_is_not_as_we_write_it(market: Market, header: bytes) -> None:
    """What two readers could take for two things is not read at all."""
    refused_alone(market, header + honest(market)[HEAD:], "does not begin with a")


def test_member_of_another_name(market: Market) -> None:
    """The list says one thing, the tar's headers another."""
    good = honest(market)
    at = good.index(b"metadata/2.acme.pump.json")
    other = good[:at] + b"metadata/2.acme.pumq.json" + good[at + 25 :]
    refused_alone(market, other, "something else where its list has metadata/2.acme")


def test_role_of_another_version_than_listed(market: Market) -> None:
    def change(listed: dict[str, Any]) -> None:
        listed["metadata"][0]["version"] = 3

    bad = with_list(honest(market), change)
    bad = bad.replace(b"metadata/2.acme.pump.json", b"metadata/3.acme.pump.json")
    at = bad.index(b"metadata/3.acme.pump.json")
    size = int(bad[at + 124 : at + 135], 8)
    bad = bad[:at] + raw(b"metadata/3.acme.pump.json", size=size) + bad[at + 512 :]
    refused_alone(market, bad, "has acme.pump v2 as acme.pump v3")


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("metadata", [], "something else where its list has targets/acme"),
        ("publisher", "globex", "acme.pump is no role of globex"),
        ("publisher", "../x", "is not a name"),
        ("format", 2, "newer than 1"),
        ("more", 1, "unknown field 'more'"),
        ("created", "yesterday", "not a time"),
        ("note", "\x1b[2J", "not one printable line"),
    ],
)
def test_list_that_says_something_else(
    market: Market, field: str, value: object, text: str
) -> None:
    bad = with_list(honest(market), lambda listed: listed.update({field: value}))
    refused_alone(market, bad, text)


@pytest.mark.parametrize(
    ("field", "entry", "text"),
    [
        ("metadata", {"role": "acme.x", "version": 1, "size": 1 << 40}, "more than"),
        ("metadata", {"role": "acme.x", "version": 1, "size": -1}, "more than"),
        ("targets", {"path": "acme/x", "size": 1 << 30}, "more than"),
        ("targets", {"path": "../x", "size": 1}, "not relative and normalised"),
    ],
)
def test_list_that_asks_for_much(
    market: Market, field: str, entry: dict[str, Any], text: str
) -> None:
    """Nothing is read, kept or waited for because a list says that it comes."""

    def change(listed: dict[str, Any]) -> None:
        listed[field].append({**entry, "sha256": "00" * 32})

    refused_alone(market, with_list(honest(market), change), text)


def test_list_of_files_that_are_too_much_together(market: Market) -> None:
    """Each is below its limit; a hundred of them would fill the memory."""

    def change(listed: dict[str, Any]) -> None:
        one = {"version": 1, "size": 16 << 20, "sha256": "00" * 32}
        listed["metadata"] = [{**one, "role": f"acme.a{i}"} for i in range(100)]

    refused_alone(market, with_list(honest(market), change), "bytes")


def test_list_beyond_its_limit(market: Market) -> None:
    data = b" " * (5 << 20)
    bad = raw(b"submission.json", size=len(data)) + padded(data) + END
    refused_alone(market, bad, "does not begin with a submission.json of at most")


def test_list_that_names_a_field_twice(market: Market) -> None:
    text = b'{"format":1,"format":1}\n'
    bad = raw(b"submission.json", size=len(text)) + padded(text) + END
    refused_alone(market, bad, "names 'format' twice")


def test_submission_under_the_name_of_another(market: Market) -> None:
    """Mallory puts her own bytes where acme's were; its name says which it had."""
    name = market.hand_in("1.1.0")
    good = (market.inbox.directory / f"{name}.tar").read_bytes()
    mallory = submission(
        publisher="acme", roles=(role_file(PUMP.role, version=2),), targets=()
    )
    (market.inbox.directory / f"{name}.tar").write_bytes(tar_of(mallory))
    done = market.accept()
    assert [one.name for one in done.refused] == [name]
    assert market.newest() == "1.0.0"
    (market.inbox.directory / f"{name}.tar").write_bytes(good)
    assert [one.name for one in market.accept().taken] == [name]
    assert market.newest() == "1.1.0"


# --- T-118 ---------------------------------------------------------------------------


def test_inbox_that_is_flooded(market: Market) -> None:
    """Who may write there fills it; nobody waits for that, and who is known lands."""
    rubbish = [f"{number:064x}" for number in range(1_100)]
    for name in rubbish:
        (market.inbox.directory / f"{name}.tar").write_bytes(b"")
    name = market.hand_in("1.1.0")
    names, more = market.inbox.names()
    assert more
    assert name not in names
    done = market.accept(only=[name])
    assert [one.name for one in done.taken] == [name]
    assert market.newest() == "1.1.0"


def test_link_to_what_the_operator_can_read(market: Market) -> None:
    """A link in the inbox must not bring his files anywhere, not even into logs."""
    secret = market.directory / "offline.key"
    secret.write_text("the operator's secret")
    name = "ab" * 32
    (market.inbox.directory / f"{name}.tar").symlink_to(secret)
    done = market.accept()
    ((found, reason),) = [(one.name, one.reason) for one in done.refused]
    assert found == name
    assert "is a symbolic link" in reason
    assert "secret" not in reason
    market.hand_in("1.1.0")
    assert len(market.accept().taken) == 1
    assert secret.exists()


def test_content_that_changes_after_it_was_compared(market: Market) -> None:
    """The tar is written over while it is read; what is copied is compared again."""
    name = market.hand_in("1.1.0")
    path = market.inbox.directory / f"{name}.tar"
    with open_submission(path) as found:
        what = found.content[0]
        with found.source.blob(what) as stream:
            right = stream.read()
        data = path.read_bytes()
        at = data.index(right)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff" * len(right))
        with pytest.raises(DigestMismatchError, match="has digest"):
            tar_of(found)


# --- T-119 ---------------------------------------------------------------------------


def test_planted_submission_is_not_built_on(market: Market) -> None:
    """Mallory hands in, as acme, what acme never signed; acme signs no such thing."""
    for version in (2, 3):
        mallory = submission(
            publisher="acme",
            created=NOW,
            base=Base(1, "00" * 32),
            roles=(role_file(PUMP.role, version=version, signers=[key("mallory")]),),
            targets=(),
        )
        plant(market, tar_of(mallory))
    plant(market, b"no tar at all")
    name = market.hand_in("1.1.0")
    with market.inbox.read(name) as found:
        assert found.label == "acme.pump v2"
        assert PUMP.release_path("1.0.0") in found.roles[0].signed.targets
    done = market.accept()
    assert [one.name for one in done.taken] == [name]
    assert len(done.refused) == 3
    assert market.newest() == "1.1.0"


def test_vendor_is_shown_an_old_state(market: Market, tmp_path: Path) -> None:
    """The operator's server shows acme what stood before its last release.

    Signed on top of that, the release would be lost, or one version signed twice.
    """
    memory = TrustStore.create(
        tmp_path / "memory",
        root=market.repository.root,
        publishers=frozenset({"acme"}),
    )
    old = market.files()
    with market.submit("acme-ci", state=memory) as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    market.accept()
    with market.submit("acme-ci", state=memory) as edit:
        assert list(map(str, edit.releases(PUMP))) == ["1.1.0", "1.0.0"]
    (market.trust / "metadata/timestamp.json").write_bytes(
        old["metadata/timestamp.json"]
    )
    with (
        pytest.raises(RollbackError),
        market.submit("acme-ci", state=memory) as edit,
    ):
        edit.add_release(market.release("1.2.0", name=PUMP))
    assert market.inbox.names().names == ()


def test_submission_is_swapped_between_signers(market: Market, tmp_path: Path) -> None:
    """One of two holders gets another file than the first one signed."""
    who = {"acme.pump": role_signers("a", "b")}
    first = submission(roles=(role_file(PUMP.role, signers=[key("a")]),), targets=())
    swapped = submission(
        roles=(role_file(PUMP.role, version=2, signers=[key("mallory")]),), targets=()
    ).sign(key("b"), who)
    with pytest.raises(RefusedError, match="says something else than the first"):
        first.merge(swapped, who=who)
    assert not first.is_complete(who)
    assert not swapped.is_complete(who)
    target = replace(first, targets=(), content=(), source=Held([]))
    assert target.merge(first.sign(key("b"), who), who=who).is_complete(who)


def role_signers(*names: str) -> Any:
    return who_signs(PUMP.role, *names, threshold=2)
