"""Attestations that come with a release: sorted out, pinned, judged, and kept as is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.attestations import describe, sort_out
from margo_supplychain.errors import (
    AttestationError,
    EnvelopeFormatError,
    FormatError,
    MetadataFormatError,
    ProvenanceError,
    RefusedError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import RevokedFunctionary
from margo_supplychain.formats.registry_form import ATTESTATION
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.verify.policy import Policy
from tests.authoring.proving import (
    ANY,
    allow_summaries,
    demand,
    device_of,
    links_of,
    make_demanding,
    publish_proven,
    run_of,
    signed_layout,
    summary,
)
from tests.authoring.trust import OPEN, PUMP, Vendor, key
from tests.world.provenance import (
    CYCLONEDX,
    LINK,
    SUMMARY,
    envelope,
    keyid,
    reopened,
)

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.digests import Descriptor

BY_SUMMARY = Policy.from_toml(
    b'[policy."*/*"]\nrequire = ["signed", "provenance"]\nprovenance = "summary"\n'
)


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return make_demanding(Vendor(tmp_path))


def record(vendor: Vendor, version: str = "1.0.0") -> Any:
    with vendor.repository.edit((), clock=vendor.clock) as edit:
        return edit.record(PUMP, Version.parse(version))


def entry(vendor: Vendor, version: str = "1.0.0") -> Any:
    with vendor.repository.edit((), clock=vendor.clock) as edit:
        return edit.releases(PUMP)[Version.parse(version)]


def bom(release: Release, *signers: str) -> bytes:
    return run_of(release).statement(CYCLONEDX, {}, *(signers or ("builder",))).data


# --- what is given -------------------------------------------------------------------


def test_what_is_given_is_sorted(vendor: Vendor) -> None:
    """However the files come, they give one record."""
    made = vendor.release("1.0.0")
    links = links_of(made)
    statement = bom(made)
    given = sort_out([*links, statement, links[0]], artifact=made.artifact.digest)
    again = sort_out([statement, *reversed(links)], artifact=made.artifact.digest)
    assert given == again
    assert [one.step for one in given.references] == [None, "build", "package", "test"]
    assert given.has_links
    assert describe(given.references) == f"links of build, package, test; {CYCLONEDX}"
    assert given.pinned[0].what.media_type == ATTESTATION
    assert "(link of build)" in given.pinned[1].shown
    assert not sort_out([], artifact=made.artifact.digest).has_links
    alone = sort_out([statement], artifact=made.artifact.digest)
    assert describe(alone.references) == CYCLONEDX


@pytest.mark.parametrize("predicate", [LINK])
def test_a_link_as_a_statement(vendor: Vendor, predicate: str) -> None:
    """Its subjects are the step's products, and not the release."""
    made = vendor.release("1.0.0")
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "out/pump.wasm", "digest": {"sha256": "0" * 64}}],
        "predicateType": predicate,
        "predicate": {"name": "build", "command": [], "materials": []},
    }
    given = sort_out([envelope(said, "builder")], artifact=made.artifact.digest)
    assert [(one.type, one.step) for one in given.references] == [(LINK, "build")]


def test_what_is_no_attestation(vendor: Vendor) -> None:
    made = vendor.release("1.0.0")
    other = vendor.release("1.1.0")

    def refused(data: bytes, match: str, kind: type[Exception] = RefusedError) -> None:
        with pytest.raises(kind, match=match):
            sort_out([data], artifact=made.artifact.digest)

    refused(b"{}", "payload type None, expected a media type", EnvelopeFormatError)
    refused(b"[]", "not a JSON object", EnvelopeFormatError)
    refused(
        envelope({"_type": "link"}, "builder", payload_type="text/plain"),
        "holds text/plain, expected an in-toto link or statement",
    )
    refused(signed_layout(), "is a layout, which the publisher's offline key lists")
    refused(envelope({"_type": 5}, "builder"), "is of type 5, expected an in-toto")
    refused(
        envelope({"_type": "link"}, "builder"),
        "without the name of its step",
        FormatError,
    )
    refused(
        bom(other),
        rf"\(https://cyclonedx.org/bom\) is about {other.artifact.digest.short}, "
        rf"expected the package {made.artifact.digest.short}",
    )
    large = run_of(made).said(SUMMARY, {"x": "y" * (1 << 20)})
    refused(envelope(large, "verifier"), "more than the limit", MetadataFormatError)


def test_too_much_together(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("margo_supplychain.authoring.attestations.MAX_TOGETHER", 100)
    made = vendor.release("1.0.0")
    with pytest.raises(RefusedError, match="bytes together, more than the 100"):
        sort_out(links_of(made), artifact=made.artifact.digest)


# --- publishing ----------------------------------------------------------------------


def test_published_with_its_provenance(vendor: Vendor) -> None:
    """The record pins every envelope; a device that demands provenance takes it."""
    made = vendor.release("1.0.0")
    given = [*links_of(made), bom(made)]
    done = publish_proven(vendor, "1.0.0", given)
    one = done.releases[0]
    assert (one.layout, len(one.attestations), one.summaries) == (1, 4, 0)
    known = record(vendor)
    assert known.layout == 1
    assert [each.step for each in known.attestations] == [
        None,
        "build",
        "package",
        "test",
    ]
    for each in known.attestations:
        stored = blob_path(vendor.trust, each.digest).read_bytes()
        assert (Digest.of(stored), len(stored)) == (each.digest, each.size)
        assert stored in given
    release = device_of(vendor).verify(PUMP, ANY)
    facts = release.report.steps[4].facts
    assert (facts["provenance"], facts["layout"]) == ("full", 1)
    report = vendor.repository.check(clock=vendor.clock)
    assert report.violations == ()
    assert report.steps[3].facts == {"releases": 1, "attestations": 4}


def test_a_chain_that_does_not_prove_is_not_published(vendor: Vendor) -> None:
    """The trace is with the error; nothing was written."""
    before = vendor.files()
    made = vendor.release("1.0.0")
    run = run_of(made)
    links = {name: one.data for name, one in run.documents().items()}
    run.links["package"]["products"]["extra"] = {"sha256": "0" * 64}
    swapped = run.documents()["package"].data
    run.signers["test"] = ("builder",)
    stranger = run.documents()["test"].data
    for given, reason in (
        ([links["build"], links["package"]], "missing-step"),
        ([links["build"], links["test"], swapped], "rule"),
        ([links["build"], stranger, links["package"]], "functionary"),
        (links_of(vendor.release("1.1.0")), "release-product"),
    ):
        with pytest.raises(ProvenanceError) as caught:
            publish_proven(vendor, "1.0.0", given)
        assert caught.value.reason == reason, caught.value
        assert caught.value.trace is not None
        assert {one["name"] for one in caught.value.trace["steps"]} == {
            "build",
            "package",
            "test",
        }
        assert caught.value.hint is not None
        assert "nothing was written" in caught.value.hint
        assert vendor.files() == before


def test_a_changed_envelope_is_not_published(vendor: Vendor) -> None:
    made = vendor.release("1.0.0")
    before = vendor.files()
    build, test, package = links_of(made)
    changed = reopened(
        build, lambda raw: raw["signatures"].append({"sig": "AAAA", "keyid": "x"})
    )
    publish_proven(vendor, "1.0.0", [changed, test, package])
    forged = reopened(
        links_of(vendor.release("1.1.0"))[0],
        lambda raw: raw.update(payload=json.loads(build)["payload"]),
    )
    before = vendor.files()
    with pytest.raises(ProvenanceError) as caught:
        publish_proven(
            vendor, "1.1.0", [forged, *links_of(vendor.release("1.1.0"))[1:]]
        )
    assert caught.value.trace is not None
    assert vendor.files() == before


def test_demanded_and_not_given(vendor: Vendor) -> None:
    before = vendor.files()
    with pytest.raises(RefusedError, match=r"no link of a step comes with 1\.0\.0"):
        vendor.publish("1.0.0")
    made = vendor.release("1.0.0")
    with pytest.raises(RefusedError, match="no link of a step"):
        publish_proven(vendor, "1.0.0", [bom(made)])
    assert vendor.files() == before


def test_links_need_a_layout(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    with pytest.raises(RefusedError, match=r"no layout of .* says what its links must"):
        publish_proven(vendor, "1.0.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.set_policy(PUMP, replace(OPEN, provenance="required"))
    with pytest.raises(RefusedError, match=r"no layout of .* serves 1\.0\.0"):
        publish_proven(vendor, "1.0.0")


def test_undemanded_links_are_judged_all_the_same(tmp_path: Path) -> None:
    """A device's own policy may demand what the publisher's does not."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_layout(PUMP, signed_layout(), serves=ANY)
    with pytest.raises(ProvenanceError):
        publish_proven(vendor, "1.0.0", links_of(vendor.release("1.0.0"))[1:])
    publish_proven(vendor, "1.0.0")
    assert record(vendor).layout == 1
    device_of(vendor).verify(PUMP, ANY)
    # What comes with nothing is no less than before.
    vendor.publish("1.1.0")
    assert record(vendor, "1.1.0").layout is None


def test_statements_alone(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    publish_proven(vendor, "1.0.0", [bom(vendor.release("1.0.0"))])
    known = record(vendor)
    assert (known.layout, len(known.attestations)) == (None, 1)
    assert vendor.device().verify(PUMP, ANY).version == known.version


def test_profile_simple_takes_none(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path, profile="simple")
    vendor.create_with_pump()
    before = vendor.files()
    with pytest.raises(RefusedError, match="the profile simple takes no attestations"):
        publish_proven(vendor, "1.0.0")
    assert vendor.files() == before


def test_attestations_of_two_releases(vendor: Vendor) -> None:
    links = links_of(vendor.release("1.0.0"))
    with pytest.raises(RefusedError, match="of 2 releases can't be told apart"):
        vendor.publish("1.0.0", "1.1.0", attestations=links)


# --- again ---------------------------------------------------------------------------


def test_the_same_again_changes_nothing(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    before = vendor.files()
    links = links_of(vendor.release("1.0.0"))
    for given in (links, [*reversed(links), links[0]], []):
        done = publish_proven(vendor, "1.0.0", given)
        assert not done.changed
        assert done.releases[0].layout == 1
        assert vendor.files() == before


def test_a_pipeline_that_runs_again_changes_nothing(vendor: Vendor) -> None:
    """The same steps, signed again from another commit: the record keeps its own."""
    publish_proven(vendor, "1.0.0")
    before = vendor.files()
    again = run_of(vendor.release("1.0.0"))
    for one in again.links.values():
        one["byproducts"] = {"commit": "another"}
    links = [one.data for one in again.documents().values()]
    done = publish_proven(vendor, "1.0.0", links)
    assert not done.changed
    assert "keeps the attestations that its record has" in done.warnings[0]
    assert vendor.files() == before


def test_others_are_refused(vendor: Vendor) -> None:
    """A record never changes, whoever asks."""
    publish_proven(vendor, "1.0.0")
    before = vendor.files()
    made = vendor.release("1.0.0")
    for given in ([*links_of(made), bom(made)], links_of(made)[:2]):
        with pytest.raises(RefusedError, match="exists with other attestations"):
            publish_proven(vendor, "1.0.0", given)
    assert vendor.files() == before


def test_a_newer_layout_changes_no_release(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_layout(PUMP, signed_layout(readme="second"), serves=ANY)
    before = vendor.files()
    assert not publish_proven(vendor, "1.0.0").changed
    assert vendor.files() == before
    publish_proven(vendor, "1.1.0")
    assert [record(vendor, one).layout for one in ("1.0.0", "1.1.0")] == [1, 2]
    for version in ("1.0.0", "1.1.0"):
        device_of(vendor).verify(PUMP, Pin.exact(Version.parse(version)))


def test_what_was_lost_is_restored(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    before = vendor.files()
    gone, damaged, _ = (one.digest for one in record(vendor).attestations)
    blob_path(vendor.trust, gone).unlink()
    blob_path(vendor.trust, damaged).write_bytes(b"{}")
    problems = vendor.repository.check(clock=vendor.clock).violations
    assert len(problems) == 2
    assert problems[0].text.startswith("acme/pump-monitor 1.0.0: ")
    done = publish_proven(vendor, "1.0.0")
    assert done.blobs_restored == 2
    assert vendor.files() == before


def test_a_lost_record_is_signed_anew_with_its_attestations(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    known = record(vendor)
    digest = Digest.of(known.to_bytes()).hex
    (vendor.trust / "targets/acme/releases/pump-monitor" / f"{digest}.1.0.0").unlink()
    before = vendor.files()
    with pytest.raises(RefusedError, match="with it which attestations"):
        vendor.publish("1.0.0")
    with pytest.raises(ProvenanceError):
        publish_proven(vendor, "1.0.0", links_of(vendor.release("1.0.0"))[:1])
    assert vendor.files() == before
    done = publish_proven(vendor, "1.0.0")
    assert any("was damaged or lost: signed anew" in one for one in done.warnings)
    assert record(vendor).attestations == known.attestations
    device_of(vendor).verify(PUMP, ANY)


def test_a_revoked_functionary_makes_no_more_releases(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    survivor = vendor.release("1.0.0").record(vendor.clock.now()).release
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        policy = edit.policy(PUMP)
        assert policy is not None
        revoked = RevokedFunctionary(key=keyid("builder"), survivors=(survivor,))
        edit.set_policy(PUMP, replace(policy, revoked_functionaries=(revoked,)))
    device_of(vendor).verify(PUMP, ANY)
    before = vendor.files()
    with pytest.raises(ProvenanceError) as caught:
        publish_proven(vendor, "1.1.0")
    assert caught.value.reason == "revoked"
    assert vendor.files() == before


def test_check_finds_a_layout_that_has_expired(vendor: Vendor) -> None:
    publish_proven(vendor, "1.0.0")
    vendor.clock.advance(days=364 * 2)
    problems = vendor.repository.check(clock=vendor.clock).violations
    assert "provenance" not in {one.rule for one in problems}
    vendor.clock.advance(days=10)
    problems = vendor.repository.check(clock=vendor.clock).violations
    assert "provenance" in {one.rule for one in problems}


def test_check_counts_what_later_demands_bar(tmp_path: Path) -> None:
    """An older release is barred by its publisher's will, and that is no problem."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        demand(edit)
    # Devices have nothing to take.
    (problem,) = vendor.repository.check(clock=vendor.clock).violations
    assert "names no layout" in problem.text
    publish_proven(vendor, "1.1.0")
    report = vendor.repository.check(clock=vendor.clock)
    assert report.violations == ()
    assert report.steps[3].facts["barred by later demands"] == 1
    # What proves nothing and is newer than all that does, is somebody's mistake.
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        policy = edit.policy(PUMP)
        assert policy is not None
        edit.set_policy(PUMP, replace(policy, provenance="none"))
    vendor.publish("1.2.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.set_policy(PUMP, policy)
    (problem,) = vendor.repository.check(clock=vendor.clock).violations
    assert problem.text.startswith("acme/pump-monitor 1.2.0: ")


def test_check_says_what_devices_refuse_by_now(vendor: Vendor) -> None:
    """Whoever was revoked since made all that there is."""
    publish_proven(vendor, "1.0.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        policy = edit.policy(PUMP)
        assert policy is not None
        revoked = RevokedFunctionary(key=keyid("builder"))
        edit.set_policy(PUMP, replace(policy, revoked_functionaries=(revoked,)))
    (problem,) = vendor.repository.check(clock=vendor.clock).violations
    assert problem.rule == "provenance"
    # An edit about something else is not in the way of it.
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()


# --- verification summaries ----------------------------------------------------------


@pytest.fixture
def summarising(vendor: Vendor) -> Vendor:
    """A vendor whose policy names a verifier, with 1.0.0."""
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        allow_summaries(edit, "verifier")
    publish_proven(vendor, "1.0.0")
    return vendor


def pinned(data: bytes) -> tuple[Digest, int]:
    return Digest.of(data), len(data)


def test_a_summary_for_a_listed_release(summarising: Vendor) -> None:
    vendor = summarising
    with pytest.raises(AttestationError, match="no verification summary"):
        device_of(vendor, BY_SUMMARY).verify(PUMP, ANY)
    said = summary(vendor, "1.0.0")
    known = record(vendor)
    done = publish_proven(vendor, "1.0.0", [said])
    assert (done.changed, done.warnings) == (True, ())
    assert done.releases[0].summaries == 1
    assert [tuple(one) for one in entry(vendor).summaries] == [pinned(said)]
    assert record(vendor) == known
    release = device_of(vendor, BY_SUMMARY).verify(PUMP, ANY)
    assert release.report.steps[4].facts["provenance"] == "summary"
    before = vendor.files()
    for given in ([said], [], [said, *links_of(vendor.release("1.0.0"))]):
        assert not publish_proven(vendor, "1.0.0", given).changed
        assert vendor.files() == before
    assert vendor.repository.check(clock=vendor.clock).violations == ()


def test_a_newer_summary_replaces_the_older(summarising: Vendor) -> None:
    vendor = summarising
    older = summary(vendor, "1.0.0")
    publish_proven(vendor, "1.0.0", [older])
    vendor.clock.advance(days=1)
    newer = summary(vendor, "1.0.0")
    other = summary(vendor, "1.0.0", "auditor")
    done = publish_proven(vendor, "1.0.0", [newer, other])
    assert any("no key that the publisher policy" in one for one in done.warnings)
    replaced = f"takes the place of {Digest.of(older).short}: the same verifier's"
    assert len([one for one in done.warnings if replaced in one]) == 1
    assert not any("claims the same key" in one for one in done.warnings)
    listed = {tuple(one) for one in entry(vendor).summaries}
    assert listed == {pinned(newer), pinned(other)}
    before = vendor.files()
    with pytest.raises(RefusedError, match=r"is older than .*, which acme/pump"):
        publish_proven(vendor, "1.0.0", [older])
    assert vendor.files() == before


def test_a_lost_summary(summarising: Vendor) -> None:
    """It is restored when it is given again, and dropped for another one."""
    vendor = summarising
    first = summary(vendor, "1.0.0")
    publish_proven(vendor, "1.0.0", [first])
    before = vendor.files()
    blob_path(vendor.trust, Digest.of(first)).unlink()
    (problem,) = vendor.repository.check(clock=vendor.clock).violations
    assert "1.0.0" in problem.text
    vendor.clock.advance(seconds=1)
    done = publish_proven(vendor, "1.0.0", [first])
    assert done.blobs_restored == 1
    assert vendor.files() == before
    blob_path(vendor.trust, Digest.of(first)).unlink()
    second = summary(vendor, "1.0.0", "auditor")
    done = publish_proven(vendor, "1.0.0", [second])
    assert any("is named no more" in one for one in done.warnings)
    assert [tuple(one) for one in entry(vendor).summaries] == [pinned(second)]


def test_summaries_of_something_else(summarising: Vendor) -> None:
    vendor = summarising
    good = summary(vendor, "1.0.0")
    before = vendor.files()

    def other_record(said: dict[str, Any]) -> None:
        said["predicate"]["inputAttestations"] = []

    def failed(said: dict[str, Any]) -> None:
        said["predicate"]["verificationResult"] = "FAILED"

    def resource(said: dict[str, Any]) -> None:
        said["predicate"]["resourceUri"] = "margo-supplychain:acme/pump-monitor@1.1.0"

    for change, reason in (
        (other_record, "summary-binding"),
        (resource, "summary-binding"),
        (failed, "summary-result"),
    ):
        said = summary(vendor, "1.0.0", change=change)
        with pytest.raises(AttestationError) as caught:
            publish_proven(vendor, "1.0.0", [said])
        assert caught.value.reason == reason
        assert vendor.files() == before
    with pytest.raises(RefusedError, match="whose record is signed only now"):
        vendor.publish(
            "1.1.0",
            attestations=[
                *links_of(vendor.release("1.1.0")),
                run_of(vendor.release("1.1.0"))
                .statement(SUMMARY, json.loads(_payload(good))["predicate"], "verifier")
                .data,
            ],
        )
    assert vendor.files() == before


def test_summaries_one_by_one_in_one_edit(summarising: Vendor) -> None:
    vendor = summarising
    made = vendor.release("1.0.0")
    older = summary(vendor, "1.0.0")
    vendor.clock.advance(days=1)
    newer, other = (summary(vendor, "1.0.0", one) for one in ("verifier", "auditor"))
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        for one in (older, other, newer, newer):
            edit.add_release(made, attestations=[one])
    listed = {tuple(one) for one in entry(vendor).summaries}
    assert listed == {pinned(newer), pinned(other)}


def test_a_lost_record_of_what_is_withdrawn(summarising: Vendor) -> None:
    """No device takes it: it need not prove anything by now."""
    vendor = summarising
    vendor.withdraw("1.0.0")
    digest = Digest.of(record(vendor).to_bytes()).hex
    (vendor.trust / "targets/acme/releases/pump-monitor" / f"{digest}.1.0.0").unlink()
    publish_proven(vendor, "1.0.0", links_of(vendor.release("1.0.0"))[:1])
    assert len(record(vendor).attestations) == 1


def test_a_lost_record_where_nothing_is_demanded_yet(tmp_path: Path) -> None:
    """A layout serves it, and some device's owner demands what its links proved."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_layout(PUMP, signed_layout(), serves=ANY)
    publish_proven(vendor, "1.0.0")
    known = record(vendor)
    digest = Digest.of(known.to_bytes()).hex
    (vendor.trust / "targets/acme/releases/pump-monitor" / f"{digest}.1.0.0").unlink()
    run = run_of(vendor.release("1.0.0"))
    statement = run.statement("https://example.com/x", {}, "attester").data
    for given in ([], [statement]):
        with pytest.raises(RefusedError, match="with it which attestations"):
            publish_proven(vendor, "1.0.0", given)
    publish_proven(vendor, "1.0.0")
    assert record(vendor).layout == known.layout == 1
    device_of(vendor).verify(PUMP, ANY)


def test_a_summary_where_the_policy_names_no_verifier(vendor: Vendor) -> None:
    """A device's own policy may name one."""
    publish_proven(vendor, "1.0.0")
    done = publish_proven(vendor, "1.0.0", [summary(vendor, "1.0.0", "site")])
    assert any("only devices whose own policy" in one for one in done.warnings)
    assert len(entry(vendor).summaries) == 1


def test_too_many_summaries(summarising: Vendor) -> None:
    vendor = summarising
    many = [summary(vendor, "1.0.0", f"auditor-{number}") for number in range(9)]
    before = vendor.files()
    with pytest.raises(RefusedError, match="would name 9 verification summaries"):
        publish_proven(vendor, "1.0.0", many)
    assert vendor.files() == before


def test_a_record_signed_anew_drops_its_summaries(summarising: Vendor) -> None:
    """They named the record that is gone."""
    vendor = summarising
    publish_proven(vendor, "1.0.0", [summary(vendor, "1.0.0")])
    digest = Digest.of(record(vendor).to_bytes()).hex
    (vendor.trust / "targets/acme/releases/pump-monitor" / f"{digest}.1.0.0").unlink()
    vendor.clock.advance(days=1)
    done = publish_proven(vendor, "1.0.0")
    assert any(
        "1.0.0 names no verification summary any" in one for one in done.warnings
    )
    assert entry(vendor).summaries == ()
    assert vendor.repository.check(clock=vendor.clock).violations == ()


def _payload(data: bytes) -> bytes:
    from margo_supplychain.formats.dsse import Envelope

    return Envelope.parse(data, what="summary").payload


def stored(vendor: Vendor) -> list[Descriptor]:
    """Return what the newest record names."""
    from margo_supplychain.authoring.attested import named_envelopes

    return list(named_envelopes(record(vendor), entry(vendor)))


def test_names_of_what_is_stored(summarising: Vendor) -> None:
    vendor = summarising
    publish_proven(vendor, "1.0.0", [summary(vendor, "1.0.0")])
    named = stored(vendor)
    assert len(named) == 4
    assert {one.media_type for one in named} == {ATTESTATION}
