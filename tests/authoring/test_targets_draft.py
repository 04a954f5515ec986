"""The next targets under a proposed root: drafted, signed apart, adopted with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.draft_form import field_rows
from margo_supplychain.authoring.targets_draft import TargetsDraft
from margo_supplychain.errors import (
    FormatError,
    IncompleteError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import canonical_json, strict_json
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.tuf_metadata import parse_targets
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring import thief
from tests.authoring.ceremony import keys_of
from tests.authoring.killing import at
from tests.authoring.trust import PUMP, Vendor, key
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
    from margo_supplychain.authoring.written import Written

ANY = Pin.range("*", grammar="npm")
NEW = keys_of("t-1", "t-2", "t-3", threshold=2)


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


def propose(vendor: Vendor, **changes: Any) -> RootProposal:
    """Return a signed proposal in which targets gets other keys."""
    from dataclasses import replace

    plan = replace(vendor.repository.plan(clock=vendor.clock), **changes)
    proposal = vendor.repository.propose_root(plan, clock=vendor.clock)
    return proposal.sign(key("offline"))


def draft(vendor: Vendor, proposal: RootProposal, *names: str) -> TargetsDraft:
    found = vendor.repository.draft_targets(proposal, clock=vendor.clock)
    for name in names:
        found = found.sign(key(name))
    return found


def adopt(
    vendor: Vendor, root: SignedRoot, targets: bytes | None, *names: str
) -> Written:
    return vendor.repository.adopt_root(
        root, [key(one) for one in names], targets=targets, clock=vendor.clock
    )


def signed_blindly(data: bytes, *names: str) -> bytes:
    """Return a file with the signatures of who signs whatever there is."""
    value = json.loads(data)
    payload = canonical_json.encode(value["signed"])
    value["signatures"] = [key(name).sign(payload).to_dict() for name in names]
    return strict_json.canonical(value)


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    return str(vendor.device(store).verify(PUMP, ANY).version)


def sound(vendor: Vendor) -> None:
    assert vendor.repository.check(clock=vendor.clock).violations == ()


def again(one: TargetsDraft, data: bytes) -> TargetsDraft:
    return TargetsDraft.parse(data, trusted=one.trusted, proposed=one.proposed)


# --- the draft -----------------------------------------------------------------------


def test_who_has_signed_is_counted_for_each_root(filled: Vendor) -> None:
    found = draft(filled, propose(filled, targets=NEW))
    assert found.file.version == 2
    assert (found.old.met, found.new.met) == (False, False)
    assert [one.role for one in found.publishers()] == ["acme"]
    assert found.changes(found.file) == ()
    with pytest.raises(IncompleteError, match="targets v2 under root v2 needs 2 more"):
        found.require_complete()
    one = found.sign(key("t-1"))
    assert (one.old.met, one.new.met) == (False, False)
    other = found.sign(key("t-3")).sign(key("offline"))
    assert (other.old.met, other.new.met) == (True, False)
    both = one.merge(other)
    assert both.data == other.merge(one).data
    assert (both.old.met, both.new.met, both.lacking()) == (True, True, ())
    assert again(both, both.data).signed_by == both.signed_by
    assert both.digest == found.digest
    assert both.sign(key("t-1")).data == both.data


def test_foreign_keys_and_changed_bytes_are_refused(filled: Vendor) -> None:
    found = draft(filled, propose(filled, targets=NEW), "t-1")
    with pytest.raises(RefusedError, match="is no key of targets"):
        found.sign(key("ci"))
    value = json.loads(found.data)
    value["signed"]["version"] = 3
    with pytest.raises(RefusedError, match="does not verify"):
        again(found, strict_json.canonical(value))
    value = json.loads(found.data)
    value["signatures"].append({"keyid": "ab" * 32, "sig": "00"})
    with pytest.raises(RefusedError, match="is no key of targets"):
        again(found, strict_json.canonical(value))
    value["signatures"] = [
        {"keyid": f"{number:064x}", "sig": "00"} for number in range(1000)
    ]
    with pytest.raises((RefusedError, FormatError)):
        again(found, strict_json.canonical(value))
    with pytest.raises(FormatError):
        again(found, found.proposed.data)
    filled.clock.advance(hours=1)
    other = draft(filled, propose(filled, targets=NEW))
    with pytest.raises(RefusedError, match="two drafts"):
        found.merge(other)


def test_nothing_is_drafted_that_is_not_needed(filled: Vendor) -> None:
    with pytest.raises(RefusedError, match=r"targets v1 is signed by the keys of root"):
        draft(filled, propose(filled))


def test_a_proposal_that_is_out_of_date(filled: Vendor) -> None:
    late = propose(filled, targets=NEW)
    filled.clock.advance(hours=1)
    adopt(filled, propose(filled).finalize(), None)
    with pytest.raises(RefusedError, match="does not follow root v2"):
        draft(filled, late)


# --- adopted -------------------------------------------------------------------------


def test_handed_over_without_a_gap(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    done = adopt(filled, proposal.finalize(), signed.data, "ci")
    assert set(done.roles) == {"root", "targets", "snapshot", "timestamp"}
    assert done.warnings == ()
    written = (filled.trust / "metadata/2.targets.json").read_bytes()
    assert written == signed.data
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled)
    assert not adopt(filled, proposal.finalize(), signed.data).roles


def test_by_the_new_keys_alone(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-2", "t-3")
    done = adopt(filled, proposal.finalize(), signed.data, "ci")
    assert set(done.roles) == {"root", "targets", "snapshot", "timestamp"}
    assert any("for a moment" in one for one in done.warnings)
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled)


def test_a_threshold_that_is_raised(filled: Vendor) -> None:
    proposal = propose(filled, targets=keys_of("offline", "t-1", threshold=2))
    signed = draft(filled, proposal, "offline", "t-1")
    assert signed.old.met
    assert adopt(filled, proposal.finalize(), signed.data, "ci").warnings == ()
    sound(filled)


def test_every_key_below_root_at_once(filled: Vendor) -> None:
    """The machine that finalizes has online keys, and sees no other one."""
    device = filled.store("device/state")
    newest(filled, device)
    online = keys_of("ci-2")
    proposal = propose(filled, targets=NEW, snapshot=online, timestamp=online)
    root, before = proposal.finalize(), filled.files()
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    for short in ((), ("ci",)):
        with pytest.raises(IncompleteError, match="snapshot needs 1 more"):
            adopt(filled, root, signed.data, *short)
    assert filled.files() == before
    assert adopt(filled, root, signed.data, "ci", "ci-2").warnings == ()
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled)


def test_every_key_below_root_was_lost(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    online = keys_of("ci-2")
    proposal = propose(filled, targets=NEW, snapshot=online, timestamp=online)
    signed = draft(filled, proposal, "t-1", "t-3")
    adopt(filled, proposal.finalize(), signed.data, "ci-2")
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled)


def test_drafted_from_what_a_thief_left(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    thief.write(filled, thief.forge(filled, change=thief.nonsense))
    online = keys_of("ci-2")
    proposal = propose(filled, targets=NEW, snapshot=online, timestamp=online)
    signed = draft(filled, proposal, "t-1", "t-3")
    adopt(filled, proposal.finalize(), signed.data, "ci-2")
    assert newest(filled, device) == newest(filled) == "1.0.0"


# --- refused -------------------------------------------------------------------------


def test_what_was_published_meanwhile_is_not_lost(filled: Vendor) -> None:
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.refresh("targets")
    before = filled.files()
    with pytest.raises(RefusedError, match="targets v2 does not follow targets v2"):
        adopt(filled, proposal.finalize(), signed.data, "ci")
    assert filled.files() == before
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    adopt(filled, proposal.finalize(), signed.data, "ci")
    sound(filled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expires": "2030-01-01T00:00:00Z"}, "more than 2 times"),
        ({"expires": "2020-01-01T00:00:00Z"}, "before anybody adopted it"),
        ({"version": 2**52}, "does not follow targets v1"),
        ({"version": 1}, "does not follow targets v1"),
        ({"x-note": "hello"}, "does not say the same as targets v1"),
        ({"delegations": {"keys": {}, "roles": []}}, "publisher acme"),
    ],
)
@pytest.mark.parametrize("also", [("offline",), ()])
def test_nothing_else_changes(
    filled: Vendor, change: dict[str, Any], message: str, also: tuple[str, ...]
) -> None:
    """Whatever enough holders have signed."""
    filled.clock.advance(hours=1)
    proposal = propose(filled, targets=NEW)
    found, before = draft(filled, proposal), filled.files()
    value = json.loads(found.data)
    value["signed"].update(change)
    data = signed_blindly(strict_json.canonical(value), "t-1", "t-3", *also)
    with pytest.raises(RefusedError, match=message):
        adopt(filled, proposal.finalize(), data, "ci")
    assert filled.files() == before


def test_it_waits_no_longer_than_its_period(filled: Vendor) -> None:
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3")
    filled.clock.advance(days=366)
    with pytest.raises(RefusedError, match="expired"):
        filled.repository.adopt_root(
            proposal.finalize(),
            [key("ci")],
            targets=signed.data,
            clock=filled.clock,
            time_checked=True,
        )


def test_a_name_that_something_else_has(filled: Vendor) -> None:
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    taken = filled.trust / "metadata/2.targets.json"
    taken.write_bytes(b"{}")
    with pytest.raises(RefusedError, match="something else under the name"):
        adopt(filled, proposal.finalize(), signed.data, "ci")
    signed = draft(filled, proposal, "t-1", "t-3", "offline")
    assert signed.file.version == 3
    adopt(filled, proposal.finalize(), signed.data, "ci")
    sound(filled)


def test_a_copy_with_fewer_signatures_lies_there(filled: Vendor) -> None:
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3")
    taken = filled.trust / "metadata/2.targets.json"
    taken.write_bytes(signed.data)
    whole = signed.sign(key("offline"))
    assert adopt(filled, proposal.finalize(), whole.data, "ci").warnings == ()
    assert taken.read_bytes() == whole.data
    sound(filled)


def test_a_copy_with_more_signatures_lies_there(filled: Vendor) -> None:
    proposal = propose(filled, targets=NEW)
    signed = draft(filled, proposal, "t-1", "t-3")
    whole = signed.sign(key("offline"))
    taken = filled.trust / "metadata/2.targets.json"
    taken.write_bytes(whole.data)
    assert adopt(filled, proposal.finalize(), signed.data, "ci").warnings == ()
    assert taken.read_bytes() == whole.data
    sound(filled)


def test_signed_where_it_can_be_compared(filled: Vendor) -> None:
    """What stands may be of another tool; it is signed beside that, and shown."""
    found = draft(filled, propose(filled, targets=NEW))
    value = json.loads(found.data)
    value["signed"]["x-tool"] = {"note": 1}
    odd = again(found, strict_json.canonical(value))
    value["signed"]["version"] = 1
    standing = parse_targets(
        strict_json.canonical(value), role="targets", limit=len(odd.data)
    )
    with pytest.raises(RefusedError, match="has the field x-tool, which nobody is"):
        odd.sign(key("t-1"))
    assert odd.sign(key("t-1"), standing=standing).new.signers
    with pytest.raises(RefusedError, match=r"does not say the same .* x-tool"):
        found.sign(key("t-1"), standing=standing)
    assert again(found, found.data).changes(found.file) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda said: said["delegations"]["roles"][0].update(terminating=1), "acme"),
        (lambda said: said["delegations"]["roles"][0].update(threshold=True), "acme"),
        (lambda said: said.update({"x-note": None}), "x-note"),
    ],
)
def test_values_that_only_read_alike_differ(
    filled: Vendor, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    found = draft(filled, propose(filled, targets=NEW))
    value = json.loads(found.data)
    change(value["signed"])
    try:
        other = again(found, strict_json.canonical(value))
    except MetadataFormatError:
        return  # no reader takes it
    assert said in " ".join(other.changes(found.file))


def test_what_is_said_besides_is_shown_within_bounds(filled: Vendor) -> None:
    found = draft(filled, propose(filled, targets=NEW))
    assert {word for word, _ in field_rows(found.file)} <= {"holder"}
    before = len(field_rows(found.file))
    value = json.loads(found.data)
    value["signed"]["x-left"] = {f"r{number:03}": ["ab" * 32] for number in range(40)}
    shown = field_rows(again(found, strict_json.canonical(value)).file)
    assert len(shown) == 21
    assert shown[-1][1].startswith(f"{20 + before} more, sha256 ")
    value["signed"]["x-left"]["r039"] = ["cd" * 32]
    assert field_rows(again(found, strict_json.canonical(value)).file) != shown


# --- killed --------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path: Path) -> Vendor:
    found = Vendor(tmp_path / "start")
    found.create_with_pump()
    found.publish("1.0.0")
    return found


@pytest.mark.parametrize("also", [("offline",), ()], ids=["both", "new"])
def test_killed_at_any_write(
    original: Vendor, tmp_path: Path, also: tuple[str, ...]
) -> None:
    """Signed by both, devices accept every moment; else there is the one gap."""
    store = original.store("device/state")
    newest(original, store)
    proposal = propose(original, targets=NEW)
    root = proposal.finalize()
    signed = draft(original, proposal, "t-1", "t-3", *also)

    def finalize(copy: Path) -> None:
        adopt(at(copy, original), root, signed.data, "ci")

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        store = TrustStore.open(copy / "device/state")
        found = vendor.repository.check(clock=vendor.clock).violations
        if also or crash.finished:
            assert newest(vendor) == newest(vendor, store) == "1.0.0"
            assert found == ()
        elif found:
            assert "root v2 is published" in found[-1].text
        finalize(copy)
        assert newest(vendor) == newest(vendor, store) == "1.0.0"
        assert store.status().root == 2
        sound(vendor)

    losses = [Loss.UNSYNCED]
    crash_points(original.directory, finalize, check, scratch=tmp_path, losses=losses)


def test_killed_in_place_of_a_lost_key(original: Vendor, tmp_path: Path) -> None:
    """The new key is at one machine; or other people's root is adopted after all."""
    root = propose(original, targets=keys_of("t-1")).finalize()
    original.clock.advance(hours=1)
    other = propose(original, targets=keys_of("t-2")).finalize()

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        has_root = (copy / "trust/metadata/2.root.json").exists()
        if crash.at % 2 or has_root:
            adopt(vendor, root, None, "t-1", "ci")
        else:
            adopt(vendor, other, None, "t-2", "ci")
        assert newest(vendor) == "1.0.0"
        sound(vendor)

    crash_points(
        original.directory,
        lambda copy: adopt(at(copy, original), root, None, "t-1", "ci"),
        check,
        scratch=tmp_path,
        losses=[Loss.UNSYNCED],
    )
