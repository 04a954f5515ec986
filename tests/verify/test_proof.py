"""Step 4: what is demanded, which layout is good for a release, and what is read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import SSlibKey

from margo_supplychain.errors import (
    AttestationError,
    BudgetError,
    ClockError,
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    PolicyError,
    ProvenanceError,
)
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import (
    PublisherPolicy,
    RevokedFunctionary,
)
from margo_supplychain.formats.record import AttestationReference
from margo_supplychain.verify import proof
from margo_supplychain.verify.case import Envelopes
from margo_supplychain.verify.limits import Limits
from tests.verify.proving import ANY, PROVEN, PUMP, Yard, demand, signer
from tests.world.provenance import LINK, Document, envelope, keyid, layout, link, linked
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

DAY = timedelta(days=1)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    found = Yard(tmp_path)
    found.publish(found.run("1.0.0"))
    return found


def refused(yard: Yard, reason: str, match: str) -> ProvenanceError:
    with pytest.raises(ProvenanceError, match=match) as caught:
        yard.verify()
    assert caught.value.reason == reason
    assert caught.value.report is not None
    assert [one.number for one in caught.value.report.steps] == [0, 1, 2, 3, 4]
    assert caught.value.report.facts(4)["provenance"] == "not proven"
    return caught.value


# --- what is demanded ----------------------------------------------------------------


def test_a_proven_release(yard: Yard) -> None:
    facts = yard.facts()
    assert (facts["provenance"], facts["layout"]) == ("full", 1)
    assert [one["name"] for one in facts["steps"]] == ["build", "test", "package"]
    assert facts["steps"][0]["functionaries"] == [keyid("builder")]
    assert len(facts["functionaries"]) == 3
    assert facts["statements"] == []
    assert [one["name"] for one in facts["trace"]["steps"]] == [
        "build",
        "test",
        "package",
    ]


def test_nothing_is_read_where_nothing_is_demanded(yard: Yard) -> None:
    yard.policy(provenance="none")
    yard.serve()
    yard.world.files.blobs.clear()
    release = yard.verify()
    assert release.report.facts(4) == {"provenance": "none"}
    assert PUMP.layout_path(1) not in yard.device.source.asked


def test_the_device_may_demand_more_than_the_publisher(yard: Yard) -> None:
    yard.policy(provenance="none")
    yard.serve()
    yard.device.policy = PROVEN
    assert yard.facts()["provenance"] == "full"
    yard.publish(yard.run("1.1.0"), layout=None)
    refused(yard, "no-layout", "names no layout, which its device demands")


def test_who_signed_the_layout_is_said_and_decides_nothing(yard: Yard) -> None:
    facts = yard.facts()
    assert facts["layout signatures"] == [keyid("acme")]
    yard.layout(1, envelope(layout(readme="new"), "mallory"), range=ANY)
    yard.serve()
    assert yard.facts()["layout signatures"] == []


# --- keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("offline", ["root", "targets", "acme"])
@pytest.mark.parametrize("online", ["snapshot", "timestamp", PUMP.role])
def test_keys_of_the_offline_roles_are_held_offline(
    yard: Yard, offline: str, online: str
) -> None:
    world = yard.world
    shared = key("shared")
    for role in (offline, online):
        parent = {"acme": "targets", PUMP.role: "acme"}.get(role, "root")
        signed = world.roles[parent]
        signed.add_key(shared.public_key, role)
        world.touch(parent)
    yard.serve()
    error = refused(yard, "keys-not-disjoint", f"{offline} and {online} share a key")
    assert error.found == f"one key for {offline} and {online}"
    yard.policy(provenance="none")
    yard.serve()
    assert yard.facts() == {"provenance": "none"}


def test_a_key_that_nobody_can_read_is_shared_with_nobody(yard: Yard) -> None:
    scheme = "ecdsa-sha2-nistp256"
    named = {"keytype": "ecdsa", "scheme": scheme, "keyval": {"public": "no key"}}
    keyid = hashlib.sha256(canonical_json.encode(named)).hexdigest()
    broken = SSlibKey(keyid, "ecdsa", scheme, {"public": "no key"})
    for parent, role in (("targets", "acme"), ("acme", PUMP.role)):
        yard.world.roles[parent].add_key(broken, role)
        yard.world.touch(parent)
    yard.serve()
    assert yard.facts()["provenance"] == "full"


def test_simple_proves_nothing(tmp_path: Path) -> None:
    """One role says what is required and what was done, whoever demands it."""
    yard = Yard(tmp_path, profile="simple")
    run = yard.run("1.0.0")
    yard.publish(run)
    allowed = b"allow-simple-profile = true\n"
    yard.device.policy = PROVEN.replace(b', "provenance"', b"") + allowed
    assert yard.facts() == {"provenance": "none"}
    yard.device.policy = PROVEN + allowed
    refused(yard, "keys-not-disjoint", "targets and targets share a key")
    asking: list[dict[str, Any]] = [
        {"provenance": "required"},
        {
            "provenance": "none",
            "attestations": (demand(),),
            "keys": (signer("attester"),),
        },
    ]
    for policy in asking:
        yard.policy(**policy)
        yard.serve()
        with pytest.raises(PolicyError, match="of the profile simple"):
            yard.verify()


# --- the layout ----------------------------------------------------------------------


def test_record_without_a_layout(yard: Yard) -> None:
    yard.publish(yard.run("1.1.0"), layout=None)
    error = refused(yard, "no-layout", "names no layout, which its publisher demands")
    assert (error.found, error.wanted) == ("none", "layout 1")


def test_layout_that_the_policy_does_not_name(yard: Yard) -> None:
    yard.world.add_target("acme", PUMP.layout_path(2), envelope(layout(), "acme"))
    yard.publish(yard.run("1.1.0"), layout=2)
    error = refused(yard, "layout-unknown", "made by layout 2, which its publisher's")
    assert (error.found, error.wanted) == ("layout 2", "layout 1")


def test_layout_of_other_versions(yard: Yard) -> None:
    yard.layout(1, envelope(layout(), "acme"), range=Pin.range("^2", grammar="npm"))
    yard.serve()
    error = refused(yard, "layout-not-for-release", r"which is good for versions \^2")
    assert error.wanted == "a layout that the publisher's policy has for this version"


def test_layout_that_was_superseded(yard: Yard) -> None:
    """It is good for what was made by it, and for nothing else."""
    old = yard.run("1.0.0").release
    data = envelope(layout(), "acme")
    yard.layout(1, data, releases=(old,))
    yard.layout(2, envelope(layout(readme="stricter"), "acme"), range=ANY)
    yard.serve()
    assert yard.facts()["layout"] == 1
    yard.publish(yard.run("1.1.0"), layout=1)
    error = refused(
        yard, "layout-not-for-release", "good for 1 releases from before it was super"
    )
    assert error.wanted == "layout 2"


def test_layout_that_the_offline_role_does_not_list(yard: Yard) -> None:
    del yard.world.roles["acme"].targets[PUMP.layout_path(1)]
    yard.world.touch("acme")
    yard.serve()
    refused(
        yard, "layout-unknown", r"acme v\d+ has no acme/layouts/pump-monitor/1.json"
    )


def test_layout_whose_bytes_changed(yard: Yard) -> None:
    """The offline key lists other bytes under the number: the policy names the old."""
    path = PUMP.layout_path(1)
    yard.world.add_target("acme", path, envelope(layout(readme="other"), "acme"))
    yard.serve()
    refused(yard, "layout-digest", "a layout's bytes never change")


def test_layout_that_has_expired(yard: Yard) -> None:
    data = envelope(layout(expires="2026-12-01T00:00:00Z"), "acme")
    yard.layout(1, data, range=ANY)
    yard.serve()
    assert yard.facts()["provenance"] == "full"
    yard.world.clock.advance(days=12)
    yard.device.clock.advance(days=12)
    yard.world.touch("snapshot", "timestamp")
    yard.serve()
    error = refused(
        yard, "layout-expired", "1.0.0: the layout expired at 2026-12-01T00:00:00Z$"
    )
    assert str(error.found).startswith("expired at 2026-12-01T00:00:00Z, it is ")
    assert str(error.hint).startswith("ask the publisher to prolong layout 1")
    # The chain is judged all the same, and told.
    assert error.trace is not None
    assert [one["name"] for one in error.trace["steps"]] == ["build", "test", "package"]
    assert [one["reason"] for one in error.trace["findings"]] == ["layout-expired"]
    # Its bytes never change; the policy grants it a longer life, or a shorter one.
    yard.layout(1, data, range=ANY, expires=datetime(2027, 6, 1, tzinfo=UTC))
    yard.serve()
    assert yard.facts()["provenance"] == "full"
    yard.layout(1, data, range=ANY, expires=datetime(2026, 11, 30, tzinfo=UTC))
    yard.serve()
    refused(yard, "layout-expired", "by the publisher policy at 2026-11-30T00:00:00Z")


def test_expired_layout_comes_before_what_else_is_wrong(yard: Yard) -> None:
    run = yard.run("1.1.0")
    run.signers["build"] = ("tester",)
    yard.publish(run)
    ended = yard.world.clock.when - DAY
    yard.layout(1, envelope(layout(), "acme"), range=ANY, expires=ended)
    yard.serve()
    error = refused(yard, "layout-expired", r"\(and \d+ more finding")
    assert error.trace is not None
    reasons = [one["reason"] for one in error.trace["findings"]]
    assert reasons[:2] == ["layout-expired", "functionary"]


def test_expired_layout_is_refused_whatever_is_withheld(yard: Yard) -> None:
    """A source that keeps a link back can't turn a no into nobody knows."""
    run = yard.run("1.1.0")
    yard.publish(run)
    ended = yard.world.clock.when - DAY
    yard.layout(1, envelope(layout(), "acme"), range=ANY, expires=ended)
    yard.serve()
    held = run.documents()["test"].reference().digest
    del yard.device.source.files.blobs[str(held)]
    error = refused(yard, "layout-expired", "layout 1 of acme/pump-monitor expired")
    assert str(error.hint).startswith("ask the publisher to prolong layout 1")


def test_layout_under_a_clock_that_nobody_believes(yard: Yard) -> None:
    """A clock of the far future calls nothing expired; a proven time does."""
    yard.device.verify()
    moved = yard.device.clock
    moved.advance(days=366 * 12)
    with pytest.raises(ClockError, match="it can't tell whether"):
        yard.verify()


def test_layout_that_is_none(yard: Yard) -> None:
    yard.layout(1, b"{}", range=ANY)
    yard.serve()
    refused(yard, "envelope", "layout 1 of acme/pump-monitor")


# --- the chain -----------------------------------------------------------------------


def test_findings_are_refused_and_told(yard: Yard) -> None:
    run = yard.run("1.1.0")
    run.links["test"]["products"]["src/extra"] = {"sha256": "00" * 32}
    run.signers["build"] = ("tester",)
    yard.publish(run)
    with pytest.raises(
        ProvenanceError, match=r"1\.1\.0: .* \(and \d+ more finding"
    ) as e:
        yard.verify()
    assert e.value.trace is not None
    assert e.value.report is not None
    assert e.value.report.facts(4)["trace"] == e.value.trace


def test_one_finding_is_told_alone(yard: Yard) -> None:
    run = yard.run("1.1.0")
    extra = link("deploy", materials={}, products={})
    yard.publish(run, [linked("deploy", extra, "builder")])
    error = refused(yard, "unexpected-link", "deploy")
    assert "more finding" not in str(error)
    assert error.step == "deploy"


def test_link_without_a_step(yard: Yard) -> None:
    run = yard.run("1.1.0")
    nameless = replace(run.documents()["build"].reference(), step=None)
    others = [
        one.reference() for name, one in run.documents().items() if name != "build"
    ]
    yard.publish(run, attestations=(nameless, *others))
    with pytest.raises(ProvenanceError) as caught:
        yard.verify()
    assert caught.value.reason in ("step-name", "unexpected-link")


def test_other_attestations_are_no_links(yard: Yard) -> None:
    """What nobody asks for is not even read."""
    yard.publish(
        yard.run("1.1.0"), [Document("https://example.com/x", None, b"no envelope")]
    )
    assert yard.facts()["provenance"] == "full"


def test_revoked_functionary(yard: Yard) -> None:
    survivor = yard.run("1.0.0").release
    lost = RevokedFunctionary(key=keyid("builder"))
    yard.policy(revoked_functionaries=(lost,))
    yard.serve()
    refused(yard, "revoked", "build")
    yard.policy(revoked_functionaries=(replace(lost, survivors=(survivor,)),))
    yard.serve()
    assert yard.facts()["provenance"] == "full"


# --- where envelopes come from -------------------------------------------------------


def test_used_envelopes_are_kept_for_an_offline_device(yard: Yard) -> None:
    assert yard.facts()["provenance"] == "full"
    yard.device.source.down = True
    assert yard.facts()["provenance"] == "full"
    kept = yard.device.state / "attestations"
    assert len(list(kept.iterdir())) == 3
    for one in kept.iterdir():
        one.write_bytes(b"damaged")
    with pytest.raises(FetchError):
        yard.facts()
    yard.device.source.down = False
    assert yard.facts()["provenance"] == "full"


def test_envelopes_of_another_source(yard: Yard) -> None:
    """The trust repository lost them; the content's source has them."""
    mirror = type(yard.device.source)(yard.device.source.files.copy())
    yard.device.source.files.blobs.clear()
    with pytest.raises(FetchError):
        yard.facts()
    yard.device.contents = [yard.device.source, mirror]
    assert yard.facts()["provenance"] == "full"


def test_a_source_with_other_bytes_is_passed_over(yard: Yard) -> None:
    files = yard.device.source.files
    honest = type(yard.device.source)(files.copy())
    named = [
        Descriptor.of(one.data, "x/y") for one in yard.run("1.0.0").documents().values()
    ]
    for what in named:
        files.blobs[str(what.digest)] = b"x" * what.size
    with pytest.raises(DigestMismatchError, match="attestation"):
        yard.facts()
    yard.device.contents = [honest]
    assert yard.facts()["provenance"] == "full"


def test_an_envelope_of_another_algorithm(yard: Yard) -> None:
    """It is read and judged like any other, and kept by nobody."""
    run = yard.run("1.1.0")
    references = []
    for one in run.documents().values():
        digest = Digest("sha512", hashlib.sha512(one.data).hexdigest())
        yard.world.files.blobs[str(digest)] = one.data
        references.append(
            AttestationReference(
                type=LINK, step=one.step, digest=digest, size=len(one.data)
            )
        )
    yard.publish(run, attestations=tuple(references))
    assert yard.facts()["provenance"] == "full"
    assert not (yard.device.state / "attestations").exists()


def test_an_offline_device_asks_the_repository_last(yard: Yard) -> None:
    yard.device.verify()
    mirror = type(yard.device.source)(yard.device.source.files.copy())
    yard.device.contents = [mirror]
    for one in (yard.device.state / "attestations").iterdir():
        one.unlink()
    yard.device.source.down = True
    yard.device.source.asked.clear()
    assert yard.facts()["provenance"] == "full"
    assert not any(one.startswith("sha256:") for one in yard.device.source.asked)


DATA = b"an envelope"
WHAT = Descriptor.of(DATA, "x/y")


def test_envelopes_have_limits() -> None:
    few = replace(Limits(), attestation=len(DATA), attestations=2 * len(DATA))
    envelopes = Envelopes(lambda _: DATA, few, "a release")
    assert envelopes.get(WHAT.digest, WHAT.size) == DATA
    with pytest.raises(BudgetError, match=r"12 bytes, more than the limit of 11"):
        envelopes.get(WHAT.digest, WHAT.size + 1)
    envelopes.get(WHAT.digest, WHAT.size)
    with pytest.raises(BudgetError, match="more than the limit of 22 bytes in all"):
        envelopes.get(WHAT.digest, WHAT.size)


@pytest.mark.parametrize(
    ("other", "error"),
    [(b"An envelope", DigestMismatchError), (b"an env", LengthMismatchError)],
)
def test_envelopes_are_what_the_record_names(
    other: bytes, error: type[Exception]
) -> None:
    """Whoever reads them need not have looked."""
    with pytest.raises(error):
        Envelopes(lambda _: other, Limits(), "a release").get(WHAT.digest, WHAT.size)


def as_authors_ask(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let `prove` be called with other arguments than a device has."""
    real: Any = proof.prove

    def other(*asked: Any, **options: Any) -> Any:
        policy = changes.get("policy", asked[3])
        known = {key: value for key, value in changes.items() if key in options}
        return real(*asked[:3], policy, *asked[4:], **{**options, **known})

    monkeypatch.setattr(proof, "prove", other)


def test_authors_ask_whatever_the_policy_says(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = PublisherPolicy(epoch=1, provenance="none")
    as_authors_ask(monkeypatch, policy=nothing)
    assert yard.facts() == {"provenance": "none"}


def test_authors_may_have_no_entry_yet(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.publish(yard.run("1.0.0"), summaries=[b"nonsense"])
    yard.device.policy = PROVEN + b'provenance = "summary"\n'
    with pytest.raises(AttestationError, match="is not JSON"):
        yard.verify()
    as_authors_ask(monkeypatch, entry=None)
    with pytest.raises(AttestationError, match="there is no verification summary"):
        yard.verify()
