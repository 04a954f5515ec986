"""Who says what a release must prove, by which clock, and what a device keeps of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    AttestationError,
    ClockError,
    DigestMismatchError,
    MalformedError,
    PolicyError,
    ProvenanceError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.predicates import CYCLONEDX
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import Image
from tests.attacks.standing import refused
from tests.verify.proving import (
    ANY,
    NAME,
    PROVEN,
    PUMP,
    SUMMARISED,
    Yard,
    demand,
    signer,
    takes,
)
from tests.world.device import SIGNED
from tests.world.provenance import ENVELOPE, Document, Run, envelope, layout

if TYPE_CHECKING:
    from pathlib import Path

FREE = "https://example.com/x"
SUPPORTED = SIGNED + b"supported = true\n"


def running(tmp_path: Path, **policy: Any) -> Yard:
    """A device that runs a proven 1.0.0."""
    yard = Yard(tmp_path)
    yard.policy(**policy)
    yard.publish(yard.run("1.0.0"))
    assert yard.device.install() == "1.0.0"  # sane
    return yard


# --- T-200: two layouts for one version ----------------------------------------------


def test_ranges_of_layouts_that_overlap(tmp_path: Path) -> None:
    """A hurried publisher leaves the weak layout current beside the strong one, and the
    online key may choose: such a policy is none."""
    yard = running(tmp_path)
    weak = envelope(layout(readme="weak"), "acme")
    yard.world.add_target("acme", PUMP.layout_path(2), weak)
    raw = json.loads(yard.world.policies[PUMP].to_bytes())
    (rule,) = raw["layouts"]
    for text in ("*", "<1.0.1", ">=0.9 <1.5 || 7.x"):
        other = {**rule, "number": 2, "range": {"grammar": "npm", "text": text}}
        raw["layouts"] = [rule, other]
        data = json.dumps(raw).encode()
        yard.world.add_target("acme", PUMP.policy_path(1), data)
        yard.serve()
        with refused(
            yard.device,
            MalformedError,
            "malformed",
            match="layouts 1 and 2 serve the same versions",
            newer=True,
        ):
            yard.device.verify()


# --- T-201: the clock ----------------------------------------------------------------


def ended(yard: Yard, when: str) -> None:
    """Release a version whose support ends then."""
    run = yard.run("1.1.0")
    milestone = {"name": "cdx:lifecycle:milestone:endOfSupport", "value": when}
    said = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"properties": [milestone]},
    }
    yard.publish(run, [run.statement(CYCLONEDX, said, "attester")])


@pytest.mark.parametrize("hours", [-24 * 400, 24 * 5_000])
def test_a_clock_that_makes_support_last(tmp_path: Path, hours: float) -> None:
    """Set back, or to a year that nobody believes, the clock proves no support; what
    has ended by a signed time has ended."""
    yard = running(tmp_path, keys=(signer("attester"),))
    yard.policy(attestations=(demand(CYCLONEDX),))
    ended(yard, "2027-01-01")
    yard.device.policy = SUPPORTED
    assert yard.device.version() == "1.1.0"
    yard.device.clock.advance(hours=hours)
    if hours < 0:
        with refused(yard.device, ClockError, "clock", match="can't tell whether its"):
            yard.device.verify()
        ended(yard, "2026-11-01")
        with refused(
            yard.device, PolicyError, "policy", match="its support ended", newer=True
        ):
            yard.device.verify()
        return
    with refused(yard.device, ClockError, "clock", match="can't tell"):
        yard.device.verify()


# --- T-202: what a device keeps ------------------------------------------------------


def test_copies_that_were_tampered_with(tmp_path: Path) -> None:
    """Whoever writes to the disk makes no link true, and a source none either."""
    yard = running(tmp_path)
    run = yard.run("1.0.0")
    forged = run.documents()["build"].data + b" "
    for path in (yard.device.state / "attestations").iterdir():
        path.write_bytes(forged)
    assert yard.facts()["provenance"] == "full"
    for path in (yard.device.state / "attestations").iterdir():
        path.write_bytes(forged)
    for one in run.documents().values():
        yard.device.source.files.blobs[str(one.what.digest)] = b"x" * one.what.size
    with refused(
        yard.device, DigestMismatchError, "digest-mismatch", match="attestation"
    ):
        yard.device.verify()


def test_large_envelopes_push_no_policy_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The online key pins what fills the device's copies: those of policies and records
    lie elsewhere, and an offline device goes on."""
    monkeypatch.setattr("margo_supplychain.verify.trust_store.MAX_COPIES_SIZE", 20_000)
    yard = running(tmp_path, keys=(signer("attester"),))
    yard.policy(attestations=(demand(FREE),))
    run = yard.run("1.1.0")
    large = [
        run.statement(
            "https://example.com/x", {"n": n, "fill": "x" * 9_000}, "attester"
        )
        for n in range(4)
    ]
    yard.publish(run, large)
    assert yard.device.version() == "1.1.0"
    yard.device.source.down = True
    assert yard.device.version() == "1.1.0"


def test_envelopes_of_one_application_push_out_no_others(tmp_path: Path) -> None:
    """Mallory has the online key of another application on the same device. Its record
    names more, and larger, statements than a device keeps: pump-monitor's own copies
    stay, and without a network the device goes on."""
    yard = running(tmp_path)
    valve = ReleaseName.parse("acme/valve")
    yard.world.add_application(str(valve))
    rule = PublisherPolicy(
        epoch=1,
        provenance="none",
        keys=(signer("attester"),),
        attestations=(demand(FREE),),
    )
    yard.world.set_policy(str(valve), rule)
    made = Run("1.0.0", yard.world.artifact(b"valve"))
    said = made.statement(FREE, {}, "attester")
    junk = [Document(FREE, None, b"%d" % n) for n in range(600)]
    large = [Document(FREE, None, bytes([n]) * (16 << 20)) for n in range(4)]

    def released(documents: list[Document]) -> str:
        for one in documents:
            yard.world.add_blob(one.data, ENVELOPE)
        record = replace(
            yard.world.record(valve, "1.0.0", made.artifact),
            attestations=tuple(one.reference() for one in documents),
        )
        yard.world.list_record(yard.world.deciding_role(valve), record)
        yard.serve()
        return yard.device.verifier.verify(valve, ANY).report.verdict

    for documents in ([said], [said, *junk], [*large, said]):
        assert released(documents) == "verified"
        yard.device.source.down = True
        assert yard.facts()["provenance"] == "full"
        yard.device.source.down = False


def flood(yard: Yard, valve: ReleaseName) -> None:
    """Let the online key of an application list one large record after another."""
    artifact = yard.world.artifact(b"valve")
    for n in range(12):
        images = tuple(
            Image(
                component="v",
                reference=f"registry.example/{n}/{one}/{'x' * 400}",
                digest=None,
            )
            for one in range(20)
        )
        record = replace(
            yard.world.record(valve, "1.0.0", artifact),
            images=images,
            closure="partial",
        )
        yard.world.list_record(yard.world.deciding_role(valve), record)
        yard.serve()
        assert yard.device.verifier.verify(valve, ANY).report.verdict == "verified"


@pytest.mark.parametrize("since", ["now", "before copies had an owner"])
def test_records_of_one_application_push_out_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    """Mallory lists one large record after another of another application on the same
    device: pump-monitor's record, policies and layout stay, and without a network the
    device goes on."""
    monkeypatch.setattr("margo_supplychain.verify.trust_store.MAX_COPIES_SIZE", 50_000)
    yard = running(tmp_path)
    valve = ReleaseName.parse("acme/valve")
    yard.world.add_application(str(valve))
    yard.world.set_policy(str(valve), PublisherPolicy(epoch=1, provenance="none"))
    yard.serve()
    if since != "now":
        for copy in (yard.device.state / "targets").iterdir():
            copy.rename(copy.with_suffix(""))
    yard.device.source.down = True
    assert yard.facts()["provenance"] == "full"  # sane
    yard.device.source.down = False

    flood(yard, valve)

    yard.device.source.down = True
    assert yard.facts()["provenance"] == "full"


# --- T-203: the lower tier is asked for ----------------------------------------------


def test_summary_offered_by_the_online_key_alone(tmp_path: Path) -> None:
    """The list names summaries, but nobody is made to take one, and of those who do,
    nobody takes the online key's."""
    yard = running(tmp_path, keys=(signer("verifier"),), summary=takes("verifier"))
    said = json.loads(yard.verify().report.to_vsa())
    bad = yard.run("1.1.0")
    bad.links["test"]["products"]["src/extra"] = {"sha256": "00" * 32}
    digest = yard.publish(bad)
    said["subject"][0]["digest"]["sha256"] = bad.artifact.digest.hex
    predicate = said["predicate"]
    predicate["resourceUri"] = f"margo-supplychain:{NAME}@1.1.0"
    predicate["inputAttestations"][0]["digest"]["sha256"] = digest.hex
    good, forged = envelope(said, "verifier"), envelope(said, PUMP.role)
    yard.publish(bad, summaries=[forged])
    yard.device.policy = SUMMARISED
    with refused(
        yard.device, AttestationError, "attestation", match="by nobody", newer=True
    ):
        yard.device.verify()
    # The verifier has failed, too: a device that judges itself is not misled.
    yard.publish(bad, summaries=[good])
    yard.device.policy = PROVEN
    with refused(
        yard.device, ProvenanceError, "provenance", match=r"1\.1\.0", newer=True
    ):
        yard.device.verify()


# --- T-204: types --------------------------------------------------------------------


def test_a_rule_for_a_type_without_a_version(tmp_path: Path) -> None:
    """It stands for the versions of the type, and for nothing that begins alike."""
    yard = running(tmp_path, keys=(signer("attester"),))
    yard.policy(attestations=(demand(CYCLONEDX),))
    run = yard.run("1.1.0")
    for type_ in ("/v1.6/x", "/x/v1.6", "s/v1.6", "/v1.6-evil"):
        said = Document(
            CYCLONEDX + type_,
            None,
            envelope(run.said(CYCLONEDX + type_, {}), "attester"),
        )
        yard.publish(run, [said])
        with refused(
            yard.device,
            AttestationError,
            "attestation",
            match="names no statement of type",
            newer=True,
        ):
            yard.device.verify()
    yard.publish(run, [run.statement(f"{CYCLONEDX}/v1.6", {}, "attester")])
    assert yard.device.version() == "1.1.0"
