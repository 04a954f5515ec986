"""Verification summaries: for small devices, somebody else has judged the chain.

Whose word counts is said by the publisher's offline key or by the device's owner, and
so is for how long. Mallory holds the online keys, and may hand any summary to the
device.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import AttestationError, ClockError, PolicyError
from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import RevokedFunctionary
from margo_supplychain.formats.times import format_time
from margo_supplychain.signing.keys import public_pem
from tests.attacks.proven import NAME, PROVEN, PUMP, running
from tests.world.provenance import (
    CYCLONEDX,
    SLSA,
    STATEMENT,
    SUMMARY,
    encode,
    envelope,
    keyid,
    layout,
    payload_of,
    reopened,
    sha256,
    summed_up,
)
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Json, Run

BY_SUMMARY = b"""
[policy."*/*"]
require = ["signed", "provenance"]
provenance = "summary"
"""
DAY = timedelta(days=1)


def small(tmp_path: Path, **rule: Any) -> Plant:
    """A plant with a small device; its vendor's `verifier` may sum up."""
    plant = running(tmp_path)
    allow(plant, "verifier", **rule)
    plant.device.policy = BY_SUMMARY
    run = plant.run("1.1.0")
    publish(plant, run)
    plant.verified("1.1.0", "summary")
    return plant


def allow(plant: Plant, *names: str, **rule: Any) -> None:
    """Let these keys sum up, with the offline key."""
    plant.policy(
        keys=tuple(PolicyKey.of(key(one).public_key) for one in names),
        summary=SummaryRule(
            **{
                "keyids": tuple(keyid(one) for one in names),
                "threshold": 1,
                "max_age": 30 * DAY,
                **rule,
            }
        ),
    )


def said_of(plant: Plant, run: Run, **changes: Any) -> Json:
    """Return an honest summary of a run, or one with these changes."""
    options = {
        "record": plant.record(run, run.documents().values()).to_bytes(),
        "layout_file": plant.layout_file(1),
        "when": format_time(plant.world.clock.when),
        **changes,
    }
    return summed_up(run, **options)


def publish(
    plant: Plant, run: Run, said: object = None, *signers: str | tuple[str, str | None]
) -> None:
    """Publish a run whose entry names a summary; an honest one by default."""
    said = said_of(plant, run) if said is None else said
    sealed = (
        said if isinstance(said, bytes) else envelope(said, *signers or ("verifier",))
    )
    plant.publish(run, summaries=[sealed])


# --- T-245: summaries that don't count -----------------------------------------------


def test_no_summary(tmp_path: Path) -> None:
    """A small device does not judge the chain; without a summary it knows nothing."""
    plant = small(tmp_path)
    plant.publish(plant.run("1.2.0"))
    plant.unattested("summary-missing", "no verification summary")


@pytest.mark.parametrize(
    "signer", ["mallory", "builder", "packager", "acme", PUMP.role, "snapshot"]
)
def test_summary_by_somebody_else(tmp_path: Path, signer: str) -> None:
    """Neither a functionary nor one of TUF's keys may sum up, unless it is named."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, said_of(plant, run), signer)
    plant.unattested("summary-signature", "summary")
    publish(plant, run, said_of(plant, run), (signer, keyid("verifier")))
    plant.unattested("summary-signature", "summary")


def test_summary_by_nobody_that_a_policy_names(tmp_path: Path) -> None:
    """A publisher that names nobody for summaries has none that count."""
    plant = small(tmp_path)
    plant.policy(summary=None, keys=())
    run = plant.run("1.2.0")
    publish(plant, run)
    plant.unattested("summary-signature", "summary")


def test_summary_by_one_of_two(tmp_path: Path) -> None:
    """Two must agree; one who signs twice is one."""
    plant = small(tmp_path)
    allow(plant, "verifier", "verifier-b", threshold=2)
    run = plant.run("1.2.0")
    said = said_of(plant, run)
    publish(plant, run, said, "verifier", ("verifier", keyid("verifier-b")))
    plant.unattested("summary-signature", "summary")
    one, two = (envelope(said_of(plant, run), name) for name in ("verifier", "mallory"))
    plant.publish(run, summaries=[one, two])
    plant.unattested("summary-signature", "summary")
    publish(plant, run, said, "verifier", "verifier-b")
    plant.verified("1.2.0", "summary")


def test_summary_that_says_no(tmp_path: Path) -> None:
    """The verifier refused this release. Somebody hands its no to the device."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    for result in ("FAILED", "passed", "PASS", "PASSED,FAILED"):
        publish(plant, run, said_of(plant, run, verificationResult=result))
        plant.unattested("summary-result", "did not pass")
    for odd in ("", "PASSED ", True, None, ["PASSED"]):
        publish(plant, run, said_of(plant, run, verificationResult=odd))
        plant.unattested("envelope", "verificationResult")


def test_summary_of_a_refusal(tmp_path: Path) -> None:
    """A device that judges itself refused the release, and says so in a summary. It is
    signed like any other; it is no yes, whoever hands it over."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    run.signers["test"] = ("builder",)
    plant.publish(run)
    plant.device.policy = PROVEN
    error = plant.refused("functionary", "test")
    assert error.report is not None
    failed = envelope(error.report.to_vsa(), "verifier")
    plant.device.policy = BY_SUMMARY
    plant.publish(run, summaries=[failed])
    plant.unattested("summary-result", "did not pass")


def test_summary_that_says_no_beside_an_older_one_that_says_yes(tmp_path: Path) -> None:
    """The newest decides: a yes from before does not stand against a no from today."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    before = format_time(plant.world.clock.when - DAY)
    good = envelope(said_of(plant, run, when=before), "verifier")
    plant.publish(run, summaries=[good])
    plant.verified("1.2.0", "summary")

    plant.device.policy = PROVEN + b'sbom = ["cyclonedx"]\n'
    error = plant.refused_by(PolicyError, "sbom: ", newer=False)
    assert error.report is not None
    failed = envelope(error.report.to_vsa(), "verifier")
    plant.device.policy = BY_SUMMARY
    for both in ([good, failed], [failed, good]):
        plant.publish(run, summaries=both)
        plant.unattested("summary-result", "did not pass")


def test_summary_too_old(tmp_path: Path) -> None:
    """What a verifier found long ago says nothing of what was found out since."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    when = plant.world.clock.when
    publish(plant, run, said_of(plant, run, when=format_time(when - 29 * DAY)))
    plant.verified("1.2.0", "summary")

    other = plant.run("1.3.0")
    publish(plant, other, said_of(plant, other, when=format_time(when - 31 * DAY)))
    plant.unattested("summary-age", "summary")


def test_summary_grows_old(tmp_path: Path) -> None:
    """The same summary, weeks later, is not enough; a clock set back does not help."""
    plant = small(tmp_path)
    plant.world.clock.advance(days=31)
    plant.device.clock.advance(days=31)
    plant.world.touch("targets", "acme", PUMP.role)
    plant.serve()
    plant.unattested("summary-age", "summary")
    plant.device.clock.advance(days=-400)
    plant.unattested("summary-age", "summary", newer=False)


def test_summary_of_tomorrow(tmp_path: Path) -> None:
    """A summary from the future would never grow old."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    when = plant.world.clock.when
    for ahead in (format_time(when + 2 * DAY), "9999-12-31T23:59:59Z"):
        publish(plant, run, said_of(plant, run, when=ahead))
        plant.refused_by(ClockError, "can't tell how old")
    for odd in ("yesterday", "", None, 7, "2026-11-21T10:00:00"):
        publish(plant, run, said_of(plant, run, when=odd))
        plant.unattested("envelope", "summary")


def other_record(plant: Plant, run: Run) -> Json:
    """About another record of the same version: other locations, say, or links."""
    documents = run.documents().values()
    record = plant.record(run, documents, locations=("oci://mallory.example/pump",))
    return said_of(plant, run, record=record.to_bytes())


def other_layout(plant: Plant, run: Run) -> Json:
    """Judged by a layout that is not the one that the publisher demands."""
    return said_of(plant, run, layout_file=envelope(layout(readme="weak"), "acme"))


def other_version(plant: Plant, run: Run) -> Json:
    return said_of(plant, run, resourceUri=f"margo-supplychain:{NAME}@1.1.0")


def other_application(plant: Plant, run: Run) -> Json:
    return said_of(plant, run, name="acme/valve")


def other_release(plant: Plant, run: Run) -> Json:
    """The summary of the release before, replayed whole."""
    del run
    return said_of(plant, plant.run("1.1.0"))


def other_subject(plant: Plant, run: Run) -> Json:
    said = said_of(plant, run)
    said["subject"][0]["digest"] = sha256("another artifact")
    return said


def no_record(plant: Plant, run: Run) -> Json:
    return said_of(plant, run, inputAttestations=[])


def no_layout(plant: Plant, run: Run) -> Json:
    """Judged by the publisher's policy and the right record, but by no layout."""
    said = said_of(plant, run)
    del said["predicate"]["inputAttestations"][1]
    return said


@pytest.mark.parametrize(
    "forge",
    [
        other_record,
        other_layout,
        other_version,
        other_application,
        other_release,
        other_subject,
        no_record,
        no_layout,
    ],
)
def test_summary_of_something_else(
    tmp_path: Path, forge: Callable[[Plant, Run], Json]
) -> None:
    """A true summary, signed by the right key, of another thing than this release."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, forge(plant, run))
    plant.unattested("summary-binding", "summary")


def test_summary_by_a_functionary_who_was_revoked(tmp_path: Path) -> None:
    """A functionary is revoked after the verifier had looked: the old summary names
    him, and falls; survivors stay."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run)
    plant.verified("1.2.0", "summary")
    gone = RevokedFunctionary(key=keyid("tester"))
    plant.policy(revoked_functionaries=(gone,))
    plant.serve()
    plant.unattested("revoked", "revoked functionary")

    alive = RevokedFunctionary(key=keyid("tester"), survivors=(run.release,))
    plant.policy(revoked_functionaries=(alive,))
    plant.serve()
    plant.verified("1.2.0", "summary")


@pytest.mark.parametrize("names", [[], None, ["ab" * 32]])
def test_summary_that_does_not_name_functionaries(tmp_path: Path, names: Any) -> None:
    """A summary that does not say who made the release would outlive a revocation."""
    plant = small(tmp_path)
    plant.policy(revoked_functionaries=(RevokedFunctionary(key=keyid("tester")),))
    run = plant.run("1.2.0")
    publish(plant, run, said_of(plant, run, **{"x-functionaries": names}))
    if names == ["ab" * 32]:
        plant.verified("1.2.0", "summary")  # made since, by others: the key is gone
    else:
        plant.unattested("revoked", "whose links counted")


def test_our_own_summary_names_a_key_by_every_id(tmp_path: Path) -> None:
    """A layout calls the tester's key by an id of its own, and the summary is made of a
    device's report. Revoking the key reaches it all the same."""
    plant = small(tmp_path)
    said = layout()
    other = "cd" * 32
    said["keys"][other] = {**said["keys"].pop(keyid("tester")), "keyid": other}
    said["steps"][1]["pubkeys"] = [other]
    plant.use_layout(said)
    run = plant.run("1.2.0")
    plant.publish(run)
    plant.device.policy = PROVEN
    vsa = plant.device.verify().report.to_vsa()
    plant.device.policy = BY_SUMMARY
    plant.publish(run, summaries=[envelope(vsa, "verifier")])
    plant.verified("1.2.0", "summary")
    plant.policy(revoked_functionaries=(RevokedFunctionary(key=keyid("tester")),))
    plant.serve()
    plant.unattested("revoked", "revoked functionary")


def test_summary_of_a_superseded_layout(tmp_path: Path) -> None:
    """The verifier judged by a layout that serves this release no more."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run)
    plant.verified("1.2.0", "summary")
    (rule,) = plant.world.policies[PUMP].layouts
    only = Pin.range(">=2.0.0", grammar="npm")
    plant.policy(layouts=(replace(rule, range=only),))
    plant.serve()
    plant.refused("layout-not-for-release", "layout 1")


def test_summary_after_its_layout_has_expired(tmp_path: Path) -> None:
    """The policy grants a layout no other life than its own file does. When that is
    over, a summary that still counts is no way around it."""
    plant = small(tmp_path)
    plant.use_layout(layout(expires="2026-12-01T00:00:00Z"))
    run = plant.run("1.2.0")
    publish(plant, run)
    plant.verified("1.2.0", "summary")
    plant.world.clock.advance(days=12)
    plant.device.clock.advance(days=12)
    plant.world.touch("targets", "acme", PUMP.role)
    plant.serve()
    for policy in (BY_SUMMARY, PROVEN):
        plant.device.policy = policy
        plant.refused("layout-expired", "expired at 2026-12-01")


def test_summary_of_a_layout_that_was_taken_away(tmp_path: Path) -> None:
    """The offline role lists the layout no more: whoever judged by it judged by
    nothing."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run)
    plant.verified("1.2.0", "summary")
    del plant.world.roles["acme"].targets[PUMP.layout_path(1)]
    plant.world.touch("acme")
    plant.serve()
    for policy in (BY_SUMMARY, PROVEN):
        plant.device.policy = policy
        plant.refused("layout-unknown", "which its own policy names")


def test_summary_by_somebody_revoked_by_an_id_of_the_layout(tmp_path: Path) -> None:
    """A layout calls the tester's key by an id of its own, in capitals, and the key is
    revoked by it. That reaches our own summaries, and those of verifiers who name keys
    otherwise."""
    plant = small(tmp_path)
    said = layout()
    other = "CD" * 32
    said["keys"][other] = {**said["keys"].pop(keyid("tester")), "keyid": other}
    said["steps"][1]["pubkeys"] = [other]
    plant.use_layout(said)
    run = plant.run("1.2.0")
    plant.publish(run)
    plant.device.policy = PROVEN
    vsa = json.loads(plant.device.verify().report.to_vsa())
    plant.device.policy = BY_SUMMARY
    for names in (
        vsa["predicate"]["x-functionaries"],
        [other],
        [keyid("tester")],
        [keyid("tester").upper()],
    ):
        plant.policy(revoked_functionaries=())
        vsa["predicate"]["x-functionaries"] = names
        plant.publish(run, summaries=[envelope(vsa, "verifier")])
        plant.verified("1.2.0", "summary")
        plant.policy(revoked_functionaries=(RevokedFunctionary(key=other.lower()),))
        plant.serve()
        plant.unattested("revoked", "revoked functionary")


def test_summary_of_tomorrow_beside_a_good_one(tmp_path: Path) -> None:
    """Somebody else's verifier has a clock that is ahead, or its key was stolen: its
    yes from the future blocks no release. A no is a no, whenever it was said."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    ahead = format_time(plant.world.clock.when + 2 * DAY)
    good = envelope(said_of(plant, run), "verifier")
    odd = envelope(said_of(plant, run, when=ahead), "verifier")
    for both in ([good, odd], [odd, good]):
        plant.publish(run, summaries=both)
        plant.verified("1.2.0", "summary")
    failed = said_of(plant, run, when=ahead, verificationResult="FAILED")
    plant.publish(run, summaries=[good, envelope(failed, "verifier")])
    plant.unattested("summary-result", "did not pass")


def test_summary_without_a_statement_that_is_demanded(tmp_path: Path) -> None:
    """The vendor demands an SBOM as well: the record names one, and the verifier has
    seen it. Neither an older summary nor a record without one is enough."""
    plant = small(tmp_path)
    plant.policy(
        keys=tuple(PolicyKey.of(key(one).public_key) for one in ("verifier", "ci")),
        attestations=(AttestationRule(type=CYCLONEDX, keyids=(keyid("ci"),)),),
    )
    run = plant.run("1.2.0")
    sbom = run.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "ci")
    documents = [*run.documents().values(), sbom]
    record = plant.record(run, documents).to_bytes()
    blind = said_of(plant, run, record=record)
    plant.publish(run, documents, summaries=[envelope(blind, "verifier")])
    plant.unattested("summary-binding", f"no statement of type {CYCLONEDX}")
    seen = said_of(plant, run, record=record)
    seen["predicate"]["inputAttestations"].append({"digest": sha256(sbom.data)})
    plant.publish(run, documents, summaries=[envelope(seen, "verifier")])
    plant.verified("1.2.0", "summary")

    other = plant.run("1.3.0")
    publish(plant, other)
    plant.unattested("missing-attestation", CYCLONEDX)


def test_tampered_summary(tmp_path: Path) -> None:
    """The result was changed after it was signed; or it was signed for another use."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    failed = envelope(said_of(plant, run, verificationResult="FAILED"), "verifier")

    def change(raw: Json) -> None:
        said = payload_of(failed)
        said["predicate"]["verificationResult"] = "PASSED"
        raw["payload"] = base64.b64encode(encode(said)).decode()

    publish(plant, run, reopened(failed, change))
    plant.unattested("summary-signature", "summary")
    odd = envelope(said_of(plant, run), "verifier", payload_type="application/json")
    publish(plant, run, odd)
    plant.unattested("payload-type", "summary")


@pytest.mark.parametrize("type_", [SLSA, STATEMENT, f"{SUMMARY}x"])
def test_another_statement_in_place_of_a_summary(tmp_path: Path, type_: str) -> None:
    """The verifier's key signed something else that looks like a summary."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    said = {**said_of(plant, run), "predicateType": type_}
    publish(plant, run, said)
    plant.unattested("predicate-type", "summary")


def test_summary_for_a_device_that_judges_itself(tmp_path: Path) -> None:
    """A device that wants the full chain takes nobody's word for it."""
    plant = small(tmp_path)
    plant.device.policy = b'[policy."*/*"]\nrequire = ["signed", "provenance"]\n'
    run = plant.run("1.2.0")
    said = said_of(plant, run)
    del run.links["test"]
    plant.publish(run, summaries=[envelope(said, "verifier")])
    plant.refused("missing-step", "test")


def test_summary_that_is_handed_over(tmp_path: Path) -> None:
    """The agent hands a summary to the device: it is judged like any other."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    plant.publish(run)
    good = envelope(said_of(plant, run), "verifier")
    bad = envelope(said_of(plant, plant.run("1.1.0")), "verifier")

    def ask(summary: bytes) -> Callable[[], object]:
        return lambda: plant.device.verifier.verify(
            PUMP, Pin.parse_argument("*"), summary=summary
        )

    for data, reason in (
        (bad, "summary-binding"),
        (b"{}", "envelope"),
        (b"[" * 100_000, "envelope"),
        (envelope(said_of(plant, run), "mallory"), "summary-signature"),
    ):
        plant.refused_by(AttestationError, "summary", reason=reason, call=ask(data))
    ask(good)()


def by_site(max_age: str) -> bytes:
    """Return the policy of a plant that trusts a verifier of its own."""
    pem = site_key()
    return (
        BY_SUMMARY
        + f'''summary-keys = ["""{pem}"""]
summary-max-age = "{max_age}"
'''.encode()
    )


def site_key() -> str:
    """Return the public key of the plant's own verifier."""
    return public_pem(key("site").public_key).decode()


def test_summary_of_the_plants_own_verifier(tmp_path: Path) -> None:
    """The device's owner trusts a verifier of his own, whom no vendor names. It counts
    on his devices alone, and for as long as he says."""
    plant = small(tmp_path)
    run = plant.run("1.2.0")
    when = format_time(plant.world.clock.when - 3 * DAY)
    sealed = envelope(said_of(plant, run, when=when), "site")
    plant.publish(run, summaries=[sealed])
    plant.unattested("summary-signature", "signed by nobody")
    plant.device.policy = by_site("7d")
    plant.verified("1.2.0", "summary")
    plant.device.policy = by_site("2d")
    plant.unattested("summary-age", "older than 2 days")


def test_summary_for_longer_than_the_owner_allows(tmp_path: Path) -> None:
    """The vendor's summaries count for 30 days; this owner wants them younger."""
    plant = small(tmp_path)
    plant.device.policy = BY_SUMMARY + b'summary-max-age = "2d"\n'
    run = plant.run("1.2.0")
    when = plant.world.clock.when
    publish(plant, run, said_of(plant, run, when=format_time(when - DAY)))
    plant.verified("1.2.0", "summary")
    other = plant.run("1.3.0")
    publish(plant, other, said_of(plant, other, when=format_time(when - 3 * DAY)))
    plant.unattested("summary-age", "older than 2 days")
