"""Attestations of what vendors submit: they come along, and are judged at both ends."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.accepting import preview
from margo_supplychain.authoring.attested import named_envelopes
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.state import State, load
from margo_supplychain.authoring.submission_changes import role_changes
from margo_supplychain.errors import FetchError, ProvenanceError, RefusedError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule, Reinstatement
from margo_supplychain.formats.registry_form import ATTESTATION
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.verify.limits import Limits
from tests.attacks.forging import all_of, entry, hand_in, role, set_policy
from tests.authoring.market import LAMP, PUMP, Market
from tests.authoring.proving import (
    ANY,
    allow_summaries,
    demand,
    device_of,
    links_of,
    listed_by_hand,
    signed_layout,
)
from tests.authoring.trust import NOW, OPEN
from tests.world.provenance import envelope

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.accepted import Accepted


class Proven(Market):
    """A market where acme demands provenance of its pump from 1.1.0 on."""

    def hand_in_proven(self, version: str, links: list[bytes] | None = None) -> str:
        """Hand in a release with its links; return the submission's name."""
        made = self.release(version, name=PUMP)
        given = links_of(made) if links is None else links
        with self.submit("acme-ci") as edit:
            assert edit.add_release(made, attestations=given)
        return self.newest_in_inbox()

    def newest_proven(self) -> str:
        """Return what a device takes that demands provenance."""
        return str(device_of(self).verify(PUMP, ANY).version)


@pytest.fixture
def market(tmp_path: Path) -> Proven:
    found = Proven(tmp_path)
    found.open_market()
    with found.submit("acme") as edit:
        demand(edit, PUMP, offline="acme")
    assert taken(found.accept()) == ["acme"]
    return found


def taken(done: Accepted) -> list[str]:
    """Return what was taken, by publisher; nothing may be refused."""
    assert done.refused == ()
    return [one.publisher for one in done.taken]


def record_of(market: Market, version: str) -> Any:
    with market.repository.edit((), clock=market.clock) as edit:
        return edit.record(PUMP, Version.parse(version))


# --- handed in and taken -------------------------------------------------------------


def test_a_layout_and_releases_by_it(market: Proven) -> None:
    name = market.hand_in_proven("1.1.0")
    shown = preview(market.repository, market.inbox, clock=market.clock)
    (row,) = shown.taken[0].changes[0].rows
    assert row.text.endswith(", by layout 1, with links of build, package, test")
    with market.inbox.read(name) as handed:
        types = {one.media_type for one in handed.content}
        assert ATTESTATION in types
    shown = preview(market.repository, market.inbox, clock=market.clock)
    assert [one.name for one in shown.taken] == [name]
    done = market.accept()
    assert taken(done) == ["acme"]
    assert market.newest_proven() == "1.1.0"
    known = record_of(market, "1.1.0")
    assert known.layout == 1
    for what in named_envelopes(known, None):
        assert blob_path(market.trust, what.digest).exists()
    report = market.repository.check(clock=market.clock)
    assert report.violations == ()
    # What was released before anybody demanded anything has no provenance.
    assert report.steps[3].facts["barred by later demands"] == 1


def test_what_waits_is_gone_on_from(market: Proven) -> None:
    """Two releases in one inbox, the second built on the first."""
    market.hand_in_proven("1.1.0")
    market.hand_in_proven("1.2.0")
    assert taken(market.accept()) == ["acme", "acme"]
    assert market.newest_proven() == "1.2.0"


def test_a_vendor_is_told_before_anything_is_handed_in(market: Proven) -> None:
    made = market.release("1.1.0", name=PUMP)
    before = sorted(market.inbox.directory.iterdir())
    with pytest.raises(ProvenanceError) as caught, market.submit("acme-ci") as edit:
        edit.add_release(made, attestations=links_of(made)[:2])
    assert caught.value.reason == "missing-step"
    assert caught.value.trace is not None
    with (
        pytest.raises(RefusedError, match="no link of a step"),
        market.submit("acme-ci") as edit,
    ):
        edit.add_release(made)
    assert sorted(market.inbox.directory.iterdir()) == before


def test_a_summary_for_what_is_published(market: Proven) -> None:
    market.hand_in_proven("1.1.0")
    with market.submit("acme") as edit:
        allow_summaries(edit, "verifier", PUMP)
    assert taken(market.accept()) == ["acme", "acme"]
    report = device_of(market).verify(PUMP, ANY).report
    said = json.loads(report.to_vsa(verifier="https://verifier.example"))
    data = envelope(said, "verifier")
    made = market.release("1.1.0", name=PUMP)
    with market.submit("acme-ci") as edit:
        assert edit.add_release(made, attestations=[data])
    shown = preview(market.repository, market.inbox, clock=market.clock)
    (row,) = shown.taken[0].changes[0].rows
    assert row.text == (
        f"release acme/pump 1.1.0: summaries {Digest.of(data)} (was none)"
    )
    assert taken(market.accept()) == ["acme"]
    assert blob_path(market.trust, Digest.of(data)).read_bytes() == data
    with market.repository.edit((), clock=market.clock) as edit:
        listed = edit.releases(PUMP)[made.version].summaries
    assert [one.digest for one in listed] == [Digest.of(data)]
    # The same again is nothing to hand in.
    with market.submit("acme-ci") as edit:
        assert not edit.add_release(made, attestations=[data])


# --- what the operator refuses -------------------------------------------------------


def refused(market: Market, match: str) -> None:
    """Expect that the operator refuses what waits, and that nothing moved."""
    before = market.files()
    done = market.accept(discard=True)
    assert done.taken == ()
    (refusal,) = done.refused
    assert match in refusal.reason
    assert market.files() == before


def test_an_envelope_that_does_not_come_along(market: Proven) -> None:
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made)
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs[1:])
    refused(market, "is named, and neither comes along nor lies in")


def test_an_envelope_that_is_here_already_need_not_come_again(market: Proven) -> None:
    """Handed in again after a refusal, or shared by two releases."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made)
    sink = DirectorySink(market.trust)
    what = Descriptor.of(blobs[0], ATTESTATION)
    sink.put_blob(what, io.BytesIO(blobs[0]))
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs[1:])
    assert taken(market.accept()) == ["acme"]
    assert market.newest_proven() == "1.1.0"


def test_attestations_beyond_what_devices_read(
    market: Proven, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made)
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs)
    monkeypatch.setattr(
        "margo_supplychain.authoring.acceptance_provenance.LIMITS",
        Limits(attestations=100),
    )
    refused(market, "of one release have more than the 100 bytes")


def test_releases_whose_rules_take_too_much_together(
    market: Proven, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them may take some seconds, while nobody else can publish."""
    changes, targets, blobs = [], dict[str, bytes](), list[bytes]()
    for version in ("1.1.0", "1.2.0"):
        one = listed_by_hand(market, market.release(version, name=PUMP))
        changes.append(one[0])
        targets.update(one[1])
        blobs += one[2]
    file = role(market, PUMP.role, all_of(*changes))
    most = "margo_supplychain.authoring.acceptance_provenance.MAX_WORK"
    for enough, allowed in ((False, 2800), (True, 1 << 33)):
        hand_in(market, file, targets=targets, blobs=blobs)
        monkeypatch.setattr(most, allowed)
        if not enough:
            refused(market, "take more work by acme/pump 1.1.0 than one submission")
        else:
            assert taken(market.accept()) == ["acme"]


def test_a_withdrawn_release_brings_nothing(market: Proven) -> None:
    """No device takes it, so nothing of it has to be here, or to prove anything."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, _ = listed_by_hand(market, made)
    mark = {"reason": "leaks", "since": "2026-11-21T10:00:00Z"}
    path = PUMP.release_path("1.1.0")

    def withdraw(signed: dict[str, Any]) -> None:
        signed["targets"][path]["custom"]["withdrawn"] = mark

    file = role(market, PUMP.role, all_of(change, withdraw))
    hand_in(market, file, targets=targets)
    assert taken(market.accept()) == ["acme"]


def test_a_policy_that_names_what_is_not_listed(market: Proven) -> None:
    every = Pin.range("*", grammar="npm")
    rule = LayoutRule(number=1, digest=Digest.of(b"nothing"), range=every)
    change, targets = set_policy(PUMP, replace(OPEN, layouts=(rule,)))
    hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, "layout 1 of acme/pump is ")
    rule = replace(rule, number=2)
    change, targets = set_policy(PUMP, replace(OPEN, layouts=(rule,)))
    hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, "names layout 2, which acme v3 does not list with that digest")


def test_a_layout_that_leaves_without_its_rule(market: Proven) -> None:
    path = PUMP.layout_path(1)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][path]

    hand_in(market, role(market, "acme", drop))
    refused(market, "names layout 1, which acme v3 does not list")


def test_a_layout_that_no_device_reads(market: Proven) -> None:
    inspected = signed_layout(
        "acme", inspect=[{"_type": "inspection", "name": "x", "run": ["true"]}]
    )
    every = Pin.range("*", grammar="npm")
    rule = LayoutRule(number=2, digest=Digest.of(inspected), range=every)
    change, targets = set_policy(PUMP, replace(OPEN, layouts=(rule,)))
    path = PUMP.layout_path(2)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(inspected)
        del signed["targets"][PUMP.layout_path(1)]

    hand_in(
        market,
        role(market, "acme", all_of(change, add)),
        targets={**targets, path: inspected},
    )
    refused(market, "inspection")


def test_reinstated_with_its_envelopes(market: Proven) -> None:
    """What comes back must have here what it names."""
    market.hand_in_proven("1.1.0")
    market.hand_in_proven("1.2.0")
    market.accept()
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("1.2.0"), reason="leaks")
    assert taken(market.accept()) == ["acme"]
    assert market.newest_proven() == "1.1.0"
    gone = record_of(market, "1.2.0").attestations[0].digest
    data = blob_path(market.trust, gone).read_bytes()
    blob_path(market.trust, gone).unlink()
    # The publisher is told before anything is handed in, and the operator looks again.
    with pytest.raises(FetchError), market.submit("acme") as edit:
        edit.reinstate(PUMP, Version.parse("1.2.0"))
    again = Reinstatement(artifact=record_of(market, "1.2.0").artifact.digest, up_to=4)
    with market.repository.edit((), clock=market.clock) as edit:
        policy = edit.policy(PUMP)
    assert policy is not None
    change, targets = set_policy(PUMP, replace(policy, reinstated=(again,)))
    hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, "is named, and neither comes along nor lies in")
    blob_path(market.trust, gone).write_bytes(data)
    with market.submit("acme") as edit:
        edit.reinstate(PUMP, Version.parse("1.2.0"))
    assert taken(market.accept()) == ["acme"]
    assert market.newest_proven() == "1.2.0"


def test_one_bad_release_stops_nobody_else(market: Proven) -> None:
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(
        market, made, links=links_of(market.release("9.0.0", name=PUMP))
    )
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs)
    market.hand_in("1.1.0", LAMP)
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["globex"]
    (refusal,) = done.refused
    assert (refusal.publisher, refusal.code) == ("acme", "provenance")
    assert market.newest(LAMP) == "1.1.0"


def test_a_record_that_the_operator_lost_is_proven_again(market: Proven) -> None:
    """Nobody knows any more what it said, so it is judged as if it were new."""
    market.hand_in_proven("1.1.0")
    market.accept()
    known = record_of(market, "1.1.0")
    digest = Digest.of(known.to_bytes()).hex
    lost = market.trust / "targets/acme/releases/pump" / f"{digest}.1.1.0"
    lost.unlink()
    market.clock.advance(days=1)
    made = market.release("1.1.0", name=PUMP)
    for links, layout, why in (
        (links_of(made)[:1], 1, "has no link"),
        ([], None, "names no layout, and its publisher policy demands"),
    ):
        change, targets, blobs = listed_by_hand(
            market, made, links=links, layout=layout
        )
        hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs)
        refused(market, why)
    market.hand_in_proven("1.1.0")
    assert taken(market.accept()) == ["acme"]
    assert market.newest_proven() == "1.1.0"


def test_a_record_that_gives_no_answer_is_not_lost(market: Proven) -> None:
    """Perhaps it is there and says something else: nothing is compared with nothing."""
    market.hand_in_proven("1.1.0")
    market.accept()
    digest = Digest.of(record_of(market, "1.1.0").to_bytes()).hex
    path = market.trust / "targets/acme/releases/pump" / f"{digest}.1.1.0"
    kept = path.read_bytes()
    market.clock.advance(days=1)
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made)
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs)
    path.unlink()
    path.mkdir()  # it can't be read
    done = market.accept()
    assert done.taken == ()
    (refusal,) = done.refused
    assert refusal.code == "fetch"
    path.rmdir()
    path.write_bytes(kept)
    assert taken(market.accept()) == ["acme"]


def test_a_change_of_record_and_summaries_is_shown(market: Proven) -> None:
    """Neither hides the other."""
    market.hand_in_proven("1.1.0")
    market.accept()
    made = market.release("1.1.0", name=PUMP)
    market.clock.advance(days=1)
    change, targets, blobs = listed_by_hand(market, made)
    path = PUMP.release_path("1.1.0")

    def add(signed: dict[str, Any]) -> None:
        pin = {"digest": f"sha256:{'0' * 64}", "size": 10}
        signed["targets"][path]["custom"]["summaries"] = [pin]

    file = role(market, PUMP.role, all_of(change, add))
    name = hand_in(market, file, targets=targets, blobs=blobs)
    with market.inbox.read(name) as handed:
        prospect = Prospect(state_of(market), market.repository.place, now=NOW)
        (shown,) = role_changes(handed, prospect)
    texts = [row.text for row in shown.rows]
    assert any("1.1.0: summaries sha256:000" in text for text in texts)
    assert any("1.1.0: its record is sha256 " in text for text in texts)


def test_a_record_that_is_none_is_shown_all_the_same(market: Proven) -> None:
    path = PUMP.release_path("1.1.0")
    custom = {"artifact": f"sha256:{'0' * 64}", "profiles": []}

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(b"{}", custom)

    name = hand_in(market, role(market, PUMP.role, add), targets={path: b"{}"})
    with market.inbox.read(name) as handed:
        prospect = Prospect(state_of(market), market.repository.place, now=NOW)
        (shown,) = role_changes(handed, prospect)
    assert shown.rows[0].text == f"release acme/pump 1.1.0: sha256:{'0' * 64}"


def state_of(market: Market) -> State:
    """Return the verified state that stands."""
    return load(
        market.repository.place.source,
        first_root=market.repository.root,
        store=None,
        clock=market.clock,
    )


def test_a_view_keeps_nothing(market: Proven) -> None:
    """What the operator lost is his to bring back: the vendor is not asked for it."""
    market.hand_in_proven("1.1.0")
    market.accept()
    gone = record_of(market, "1.1.0").attestations[0].digest
    blob_path(market.trust, gone).unlink()
    made = market.release("1.1.0", name=PUMP)
    with market.submit("acme-ci") as edit:
        assert not edit.add_release(made, attestations=links_of(made))
    with pytest.raises(FetchError):
        device_of(market).verify(PUMP, ANY)
