"""The second tier: whose summary counts, for which release, and for how long."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    AttestationError,
    ClockError,
    FetchError,
    ProvenanceError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import RevokedFunctionary
from margo_supplychain.provenance.revocation import names_of
from margo_supplychain.threshold import material
from tests.verify.proving import (
    ANY,
    PROVEN,
    SLSA,
    SUMMARISED,
    Yard,
    demand,
    signer,
    takes,
)
from tests.world.provenance import envelope, keyid, layout
from tests.world.repository import START, key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.errors import SupplyChainError


def pem(name: str) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key(name).public_key
    found = public._crypto_key()
    data: bytes = found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data.decode()


def own_keys(*names: str, age: str = "10d") -> bytes:
    """Return a device's policy that takes summaries by these keys."""
    keys = json.dumps([pem(one) for one in names]).encode()
    limit = f'summary-max-age = "{age}"\n'.encode()
    return SUMMARISED + b"summary-keys = " + keys + b"\n" + limit


class Site(Yard):
    """A yard whose publisher takes the summaries of `verifier`."""

    def __init__(self, where: Path) -> None:
        super().__init__(where)
        self.policy(keys=(signer("verifier"),), summary=takes("verifier"))
        self.record = self.publish(self.run("1.0.0"))
        self.device.policy = PROVEN
        self.said: dict[str, Any] = json.loads(self.verify().report.to_vsa())
        self.device.policy = SUMMARISED
        # What a small device could not read anyway.
        for path in (self.device.state / "attestations").iterdir():
            path.unlink()
        for one in self.run("1.0.0").documents().values():
            del self.device.source.files.blobs[str(one.what.digest)]

    def summary(
        self, *signers: str, payload_type: str | None = None, **predicate: Any
    ) -> bytes:
        """Return the summary, signed; fields of its predicate may say other things."""
        said = {**self.said, "predicate": {**self.said["predicate"], **predicate}}
        more = {} if payload_type is None else {"payload_type": payload_type}
        return envelope(said, *(signers or ("verifier",)), **more)

    def offer(self, *summaries: bytes) -> None:
        """List the release with these summaries in its entry."""
        self.publish(self.run("1.0.0"), summaries=summaries)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(
    site: Site,
    summary: bytes | None,
    reason: str,
    match: str,
    kind: type[SupplyChainError] = AttestationError,
) -> Any:
    with pytest.raises(kind, match=match) as caught:
        site.verify(summary)
    assert getattr(caught.value, "reason", "") == reason
    return caught.value


def inputs(said: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = said["predicate"]["inputAttestations"]
    return found


# --- what counts ---------------------------------------------------------------------


def test_a_summary_that_was_given(site: Site) -> None:
    facts = site.facts(site.summary())
    assert facts == {
        "provenance": "summary",
        "layout": 1,
        "layout digest": f"sha256:{inputs(site.said)[1]['digest']['sha256']}",
        "signers": [keyid("verifier")],
        "verifier": "urn:margo-supplychain:device",
        "verified": "2026-11-21T10:00:00Z",
        "statements": [],
    }
    assert not list((site.device.state / "attestations").iterdir())


def test_a_summary_in_the_list(site: Site) -> None:
    site.offer(site.summary())
    assert site.facts()["provenance"] == "summary"
    site.device.source.down = True
    assert site.facts()["provenance"] == "summary"


def test_a_summary_counts_only_where_the_device_takes_one(site: Site) -> None:
    site.device.policy = PROVEN
    with pytest.raises(FetchError):
        site.verify(site.summary())


def test_there_is_no_summary(site: Site) -> None:
    error = refused(site, None, "summary-missing", "takes nothing else")
    assert "--summary" in error.hint


def test_a_summary_is_not_looked_at_where_nothing_is_demanded(site: Site) -> None:
    site.policy(provenance="none")
    site.serve()
    site.device.policy = SUMMARISED.replace(b', "provenance"', b"")
    assert site.facts(b"nonsense") == {"provenance": "none"}


def test_one_of_several_counts(site: Site) -> None:
    """What else is offered takes nothing away."""
    site.offer(b"{}", site.summary("mallory"), site.summary())
    assert site.facts(b"nonsense")["provenance"] == "summary"


# --- who says so ---------------------------------------------------------------------


def test_signed_by_nobody_that_a_policy_names(site: Site) -> None:
    error = refused(site, site.summary("mallory"), "summary-signature", "by nobody")
    assert error.found == "no such key"
    assert str(error).startswith(
        "the summary of acme/pump-monitor 1.0.0 that was given"
    )


def test_the_publisher_takes_none(site: Site) -> None:
    site.policy(summary=None, keys=())
    site.serve()
    refused(site, site.summary(), "summary-signature", "by nobody")


def test_as_many_as_the_publisher_says(site: Site) -> None:
    both = ("verifier", "auditor")
    rule = takes(*both, threshold=2)
    site.policy(keys=tuple(map(signer, both)), summary=rule)
    site.serve()
    refused(site, site.summary("verifier"), "summary-signature", "by nobody")
    assert site.facts(site.summary(*both))["signers"] == sorted(map(keyid, both))


def test_keys_of_the_device(site: Site) -> None:
    site.policy(summary=None, keys=())
    site.serve()
    site.device.policy = own_keys("site")
    assert site.facts(site.summary("site"))["signers"] == [keyid("site")]
    refused(site, site.summary("verifier"), "summary-signature", "by nobody")


def test_keys_for_statements_sign_no_summary(site: Site) -> None:
    keys = (signer("verifier"), signer("attester"))
    site.policy(keys=keys)
    site.serve()
    refused(site, site.summary("attester"), "summary-signature", "by nobody")


# --- what it is about ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"resourceUri": "margo-supplychain:acme/pump@1.0.0"}, 'is about "margo'),
        ({"inputAttestations": []}, "does not name the record as input"),
    ],
)
def test_bound_to_a_release(site: Site, change: dict[str, Any], match: str) -> None:
    refused(site, site.summary(**change), "summary-binding", match)


def test_bound_to_the_artifact(site: Site) -> None:
    other = {"digest": {"sha256": "00" * 32}, "name": "release/manifest"}
    site.said["subject"] = [other]
    refused(site, site.summary(), "summary-binding", "is about another artifact")


def test_bound_to_record_and_layout(site: Site) -> None:
    record, layout_input, *rest = inputs(site.said)
    error = refused(
        site,
        site.summary(inputAttestations=[record, *rest]),
        "summary-binding",
        "does not name layout 1 as input",
    )
    assert error.wanted == f"sha256:{layout_input['digest']['sha256']}"
    error = refused(
        site,
        site.summary(inputAttestations=[layout_input, *rest]),
        "summary-binding",
        "does not name the record as input",
    )
    assert error.wanted == str(site.record)
    # Some verifiers call the layout their policy.
    summary = site.summary(
        inputAttestations=[record], policy={"digest": layout_input["digest"]}
    )
    assert site.facts(summary)["provenance"] == "summary"


def test_which_layout_is_good_is_judged_here(site: Site) -> None:
    """The summary was right when it was made; the policy has changed since."""
    summary = site.summary()
    data = envelope(layout(), "acme")
    site.layout(1, data, range=Pin.range("^2", grammar="npm"))
    site.serve()
    refused(site, summary, "layout-not-for-release", "good for", kind=ProvenanceError)
    site.layout(1, envelope(layout(readme="x"), "acme"), range=ANY)
    site.serve()
    refused(site, summary, "summary-binding", "does not name layout 1")


def test_layout_that_calls_itself_expired(site: Site) -> None:
    later(site, 1)
    data = envelope(layout(expires="2026-11-22T00:00:00Z"), "acme")
    site.layout(1, data, range=ANY)
    site.serve()
    refused(
        site, site.summary(), "layout-expired", "expired at 2026", kind=ProvenanceError
    )
    # The policy may grant it a longer life; then it is another layout all the same.
    site.layout(1, data, range=ANY, expires=datetime(2027, 1, 1, tzinfo=UTC))
    site.serve()
    refused(site, site.summary(), "summary-binding", "does not name layout 1")


def test_layout_that_the_policy_calls_expired(site: Site) -> None:
    data = envelope(layout(), "acme")
    site.layout(1, data, range=ANY, expires=datetime(2026, 11, 20, tzinfo=UTC))
    site.serve()
    refused(
        site, site.summary(), "layout-expired", "expired at 2026", kind=ProvenanceError
    )


def test_statements_that_the_publisher_demands(site: Site) -> None:
    keys = (signer("verifier"), signer("attester"))
    site.policy(keys=keys, attestations=(demand(),))
    site.serve()
    refused(site, site.summary(), "missing-attestation", "names no statement of type")
    run = site.run("1.0.0")
    said = run.statement(SLSA, {}, "attester")
    record = site.publish(run, [said])
    named = [{"digest": {"sha256": record.hex}}, inputs(site.said)[1]]
    error = refused(
        site,
        site.summary(inputAttestations=named),
        "summary-binding",
        "names no statement of type",
    )
    assert error.wanted == str(said.what.digest)
    named.append({"digest": {"sha256": said.what.digest.hex}})
    assert site.facts(site.summary(inputAttestations=named))["provenance"] == "summary"


def test_statements_alone_may_be_summarised(site: Site) -> None:
    """No chain is demanded: no layout either."""
    run = site.run("1.0.0")
    said = run.statement(SLSA, {}, "attester")
    keys = (signer("verifier"), signer("attester"))
    site.policy(provenance="none", layouts=(), keys=keys, attestations=(demand(),))
    site.device.policy = SUMMARISED.replace(b', "provenance"', b"")
    record = site.publish(run, [said], layout=None)
    named = [{"digest": {"sha256": one}} for one in (record.hex, said.what.digest.hex)]
    facts = site.facts(site.summary(inputAttestations=named))
    assert (facts["provenance"], facts.get("layout")) == ("summary", None)


# --- what it says --------------------------------------------------------------------


def test_a_summary_may_say_no(site: Site) -> None:
    refused(
        site,
        site.summary(verificationResult="FAILED"),
        "summary-result",
        "says that the release did not pass",
    )


def test_the_newest_decides(site: Site) -> None:
    later = "2026-11-21T10:00:01Z"
    no = site.summary(verificationResult="FAILED")
    late_no = site.summary(verificationResult="FAILED", timeVerified=later)
    site.offer(no)
    assert site.facts(site.summary(timeVerified=later))["verified"] == later
    # Of the same second, the one that says no.
    refused(site, site.summary(), "summary-result", "did not pass; the summary of ")
    site.offer(late_no)
    void = "2026-11-21T10:00:00Z says that it passed, and the newest decides"
    refused(site, site.summary(), "summary-result", f"did not pass; .* of {void}")
    site.offer(late_no, site.summary())
    again = site.summary(timeVerified="2026-11-21T09:00:00Z")
    refused(site, again, "summary-result", "did not pass; 2 say that it passed, and")


def test_functionaries_that_were_revoked_since(site: Site) -> None:
    survivor = site.run("1.0.0").release
    site.policy(revoked_functionaries=(RevokedFunctionary(key=keyid("other")),))
    site.serve()
    assert site.facts(site.summary())["provenance"] == "summary"
    refused(
        site,
        site.summary(**{"x-functionaries": None}),
        "revoked",
        "does not say whose links counted",
    )
    for known_as in (keyid("tester"), material(key("tester").public_key)):
        lost = RevokedFunctionary(key=known_as)
        site.policy(revoked_functionaries=(lost,))
        site.serve()
        error = refused(site, site.summary(), "revoked", "counts the revoked")
        assert error.found in names_of(key("tester").public_key)
        site.policy(revoked_functionaries=(replace(lost, survivors=(survivor,)),))
        site.serve()
        assert site.facts(site.summary())["provenance"] == "summary"


# --- how old it is -------------------------------------------------------------------


def later(site: Site, days: float) -> None:
    """Let time pass for all, the repository being kept fresh."""
    for clock in (site.world.clock, site.device.clock):
        clock.advance(days=days)
    site.world.touch("snapshot", "timestamp")
    site.serve()


def test_it_counts_for_as_long_as_the_publisher_says(site: Site) -> None:
    later(site, 30)
    assert site.facts(site.summary())["provenance"] == "summary"
    later(site, 0.001)
    error = refused(site, site.summary(), "summary-age", r"older than 30 days")
    assert error.found == "2026-11-21T10:00:00Z"


def test_the_device_may_want_a_younger_one(site: Site) -> None:
    site.device.policy = SUMMARISED + b'summary-max-age = "10d"\n'
    later(site, 10)
    assert site.facts(site.summary())["provenance"] == "summary"
    later(site, 1)
    refused(site, site.summary(), "summary-age", "older than 10 days")
    site.device.policy = SUMMARISED + b'summary-max-age = "60d"\n'
    later(site, 20)
    refused(site, site.summary(), "summary-age", "older than 30 days")


def test_the_longer_of_two_ages_counts(site: Site) -> None:
    site.device.policy = own_keys("verifier", age="40d")
    later(site, 35)
    assert site.facts(site.summary())["provenance"] == "summary"
    later(site, 6)
    refused(site, site.summary(), "summary-age", "older than 40 days")


def test_a_clock_that_is_behind_proves_no_age(site: Site) -> None:
    site.device.clock.advance(days=-2)
    with pytest.raises(ClockError, match="it can't tell how old"):
        site.verify(site.summary())
    # What is signed proves that it is too old, whatever the clock says.
    old = site.summary(timeVerified="2026-10-01T00:00:00Z")
    refused(site, old, "summary-age", "older than 30 days")


def test_a_summary_of_the_future(site: Site) -> None:
    ahead = START + timedelta(minutes=59)
    soon = site.summary(timeVerified=f"{ahead:%Y-%m-%dT%H:%M:%SZ}")
    assert site.facts(soon)["provenance"] == "summary"
    ahead_of_all = site.summary(timeVerified="2026-11-21T11:00:01Z")
    with pytest.raises(ClockError, match="it can't tell how old"):
        site.verify(ahead_of_all)
    # Beside another, it is passed over: its verifier's clock may be wrong.
    site.offer(site.summary())
    assert site.facts(ahead_of_all)["verified"] == "2026-11-21T10:00:00Z"
    # Unless it is the device's own clock that is wrong.
    site.device.clock.advance(days=-2)
    with pytest.raises(ClockError, match="11:00:01Z"):
        site.verify(ahead_of_all)


# --- envelopes -----------------------------------------------------------------------


def test_a_listed_summary_that_nobody_has(site: Site) -> None:
    """Not a no: what was not seen may be good."""
    summary = site.summary()
    site.offer(summary, site.summary("mallory"))
    for digest, data in list(site.device.source.files.blobs.items()):
        if data == summary:
            del site.device.source.files.blobs[digest]
    with pytest.raises(FetchError):
        site.verify()
    assert site.facts(summary)["provenance"] == "summary"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b" " * ((1 << 20) + 1), "more than the limit of 1048576"),
    ],
)
def test_no_envelope(site: Site, data: bytes, match: str) -> None:
    refused(site, data, "envelope", match)


def test_a_summary_that_nobody_signed_says_what_to_do(site: Site) -> None:
    bare = b'{"_type": "https://in-toto.io/Statement/v1", "subject": []}'
    error = refused(site, bare, "envelope", "is not signed: it is a bare document")
    assert error.hint.startswith("let `attest add` sign it")


def test_another_payload_type(site: Site) -> None:
    refused(
        site,
        site.summary(payload_type="application/json"),
        "payload-type",
        'has the payload type "application/json"',
    )


def test_another_predicate_type(site: Site) -> None:
    site.said["predicateType"] = SLSA
    error = refused(
        site, site.summary(), "predicate-type", 'says "https://slsa.dev/pro'
    )
    assert error.found == SLSA


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"verifier": "x"}, "has no object verifier"),
        ({"verifier": {}}, "has no text id"),
        ({"timeVerified": None}, "has no text timeVerified"),
        ({"timeVerified": "yesterday"}, "'yesterday', not a time"),
        ({"resourceUri": 7}, "has no text resourceUri"),
        ({"resourceUri": "a b"}, "printable ASCII"),
        ({"verificationResult": True}, "has no text verificationResult"),
        ({"inputAttestations": {}}, "no list of up to 2000 inputAttestations"),
        ({"inputAttestations": [7]}, "an input without a digest"),
        ({"inputAttestations": [{}]}, "an input without a digest"),
        ({"inputAttestations": ["x" * 20] * 2001}, "no list of up to 2000"),
        ({"policy": {}}, "an input without a digest"),
        ({"x-functionaries": "x"}, "no list of up to 2000 x-functionaries"),
        ({"x-functionaries": [7]}, "no list of up to 2000 x-functionaries"),
        ({"x-functionaries": ["x"] * 2001}, "no list of up to 2000 x-func"),
    ],
)
def test_a_summary_of_another_shape(
    site: Site, change: dict[str, Any], match: str
) -> None:
    refused(site, site.summary(**change), "envelope", match)


def test_a_payload_that_is_no_statement(site: Site) -> None:
    refused(site, envelope(b"{}", "verifier"), "envelope", "is of type None")


def test_fractions_of_a_second_are_read(site: Site) -> None:
    summary = site.summary(timeVerified="2026-11-21T10:00:00.123456Z")
    assert site.facts(summary)["verified"] == "2026-11-21T10:00:00Z"
