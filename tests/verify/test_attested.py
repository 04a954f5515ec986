"""Statements that count: signed by whom, of which type, about what, from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import AttestationError, FetchError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.predicates import CYCLONEDX, kind_of
from margo_supplychain.formats.statements import Statement
from margo_supplychain.verify.attested import ProvenStatement
from tests.verify.proving import SLSA, Yard, demand, signer
from tests.world.provenance import Document, envelope, keyid
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

BUILDER = "https://ci.acme.example/builder"
SOURCE = "https://git.acme.example/pump"
BUILT: dict[str, Any] = {
    "runDetails": {"builder": {"id": BUILDER}},
    "buildDefinition": {"resolvedDependencies": [{"uri": f"git+{SOURCE}@v1"}]},
}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A publisher that demands SLSA provenance by `attester`, and no chain."""
    found = Yard(tmp_path)
    asks(found, demand(), "attester")
    return found


def asks(yard: Yard, rule: Any, *keys: str) -> None:
    yard.policy(
        provenance="none",
        attestations=(rule,),
        keys=tuple(signer(one) for one in keys),
    )
    yard.serve()


def refused(yard: Yard, reason: str, match: str) -> AttestationError:
    with pytest.raises(AttestationError, match=match) as caught:
        yard.verify()
    assert caught.value.reason == reason
    assert caught.value.type == SLSA
    assert caught.value.report is not None
    assert caught.value.report.steps[-1].number == 4
    return caught.value


def publish(
    yard: Yard, *signers: str, said_of_it: Any = BUILT, **changes: Any
) -> Document:
    run = yard.run("1.0.0")
    said = run.statement(SLSA, said_of_it, *signers, **changes)
    yard.publish(run, [said])
    return said


def test_a_statement_that_counts(yard: Yard) -> None:
    said = publish(yard, "attester")
    facts = yard.facts()
    (found,) = facts["statements"]
    assert (facts["provenance"], "layout" in facts) == ("none", False)
    assert (found["type"], found["digest"]) == (SLSA, str(said.what.digest))
    assert len(found["signers"]) == 1


def test_chain_and_statements(yard: Yard) -> None:
    yard.policy(provenance="required")
    publish(yard, "attester")
    facts = yard.facts()
    assert facts["layout"] == 1
    assert len(facts["statements"]) == 1


def test_a_record_that_leaves_it_out(yard: Yard) -> None:
    yard.publish(yard.run("1.0.0"))
    error = refused(yard, "missing-attestation", "names no statement of type")
    assert (error.found, error.wanted) == ("none", SLSA)


def test_signed_by_somebody_else(yard: Yard) -> None:
    publish(yard, "mallory", "builder")
    error = refused(yard, "signature", "signed by 0 of the keys that the publisher")
    assert error.wanted == f"1 of {keyid('attester')[:12]}"


def test_a_key_for_another_type(yard: Yard) -> None:
    yard.policy(
        attestations=(demand(), demand(CYCLONEDX, "bom-maker")),
        keys=(signer("attester"), signer("bom-maker")),
    )
    publish(yard, "bom-maker")
    refused(yard, "signature", "signed by 0 of the keys")


def test_as_many_as_the_rule_says(yard: Yard) -> None:
    both = ("attester", "second")
    asks(yard, demand(SLSA, *both, threshold=2), *both)
    publish(yard, "attester", "attester")
    refused(yard, "signature", "signed by 1 of the keys .* expected 2")
    publish(yard, *both)
    assert len(yard.facts()["statements"]) == 1


@pytest.mark.parametrize(
    ("data", "reason", "match"),
    [
        (b"x", "envelope", "is not JSON"),
        (b"{}", "envelope", "payload type"),
        (
            envelope(b"{}", "attester", payload_type="text/plain"),
            "payload-type",
            'has the payload type "text/plain"',
        ),
        (envelope(b"{}", "attester"), "envelope", "is of type None"),
        (envelope(b"[", "attester"), "envelope", "is not JSON"),
    ],
)
def test_no_statement(yard: Yard, data: bytes, reason: str, match: str) -> None:
    yard.publish(yard.run("1.0.0"), [Document(SLSA, None, data)])
    refused(yard, reason, match)


def test_of_another_type(yard: Yard) -> None:
    publish(yard, "attester", predicateType=CYCLONEDX)
    error = refused(yard, "predicate-type", f'says "{CYCLONEDX}", the record')
    assert (error.found, error.wanted) == (CYCLONEDX, SLSA)


def test_about_something_else(yard: Yard) -> None:
    other = {"name": "x", "digest": {"sha256": "0" * 64, "sha512": "1" * 128}}
    publish(yard, "attester", subject=[other])
    error = refused(yard, "subject", "is about something else")
    assert error.found == f"sha256:{'0' * 64}, sha512:{'1' * 128}"


def test_texts_of_documents_are_bounded_in_errors(yard: Yard) -> None:
    odd = {"name": "x", "digest": {"blake" * 9_000: "1\n" * 9_000}}
    publish(yard, "attester", subject=[odd])
    error = refused(yard, "subject", "is about something else")
    assert error.found is not None
    assert error.found.startswith("blakeblake")
    assert "63001 characters" in error.found
    assert len(error.found) < 200

    asks(yard, demand(builders=(BUILDER,)), "attester")
    long = {"runDetails": {"builder": {"id": "https://" + "x" * 9_000}}}
    publish(yard, "attester", said_of_it=long)
    error = refused(yard, "statement-rule", "names the builder")
    assert error.found is not None
    assert "9008 characters" in error.found
    assert len(error.found) < 200


def test_only_what_rules_look_at_is_kept(yard: Yard) -> None:
    """What was parsed may be twenty times as large as its text."""
    said = Statement((), SLSA, {"large": 1})
    kind = kind_of(SLSA)
    assert kind is not None
    found = ProvenStatement(SLSA, kind, said, Digest.of(b""), frozenset({"a"}))
    assert found.kept_for(frozenset({kind, "review"})) is found
    kept = found.kept_for(frozenset({"review"}))
    assert kept == found._replace(statement=Statement((), SLSA, {}))
    # A rule can't ask for a type that has no kind.
    other = found._replace(kind=None)
    assert other.kept_for(frozenset()) is other
    publish(yard, "attester")
    (facts,) = yard.facts()["statements"]
    assert facts["type"] == SLSA


def test_what_does_not_count_takes_nothing_away(yard: Yard) -> None:
    run = yard.run("1.0.0")
    good = run.statement(SLSA, BUILT, "attester")
    bad = run.statement(SLSA, {}, "mallory")
    for both in ((good, bad), (bad, good)):
        yard.publish(run, both)
        (found,) = yard.facts()["statements"]
        assert found["digest"] == str(good.what.digest)


def test_one_that_nobody_has_is_no_answer(yard: Yard) -> None:
    """It may have been the one that counts."""
    said = publish(yard, "attester")
    del yard.device.source.files.blobs[str(said.what.digest)]
    with pytest.raises(FetchError):
        yard.verify()


# --- builders and sources ------------------------------------------------------------


def test_built_by_whom_the_publisher_names(yard: Yard) -> None:
    asks(yard, demand(builders=(BUILDER,), sources=(f"{SOURCE}.git",)), "attester")
    publish(yard, "attester")
    assert len(yard.facts()["statements"]) == 1
    asks(yard, demand(builders=("https://x.example",)), "attester")
    error = refused(
        yard, "statement-rule", "names the builder .*, its publisher allows"
    )
    assert (error.found, error.wanted) == (BUILDER, "https://x.example")
    asks(yard, demand(sources=("https://x.example/pump",)), "attester")
    error = refused(yard, "statement-rule", "names the source")
    assert (error.found, error.wanted) == (SOURCE, "https://x.example/pump")


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({"builders": (BUILDER,)}, "names the builder none"),
        ({"sources": (SOURCE,)}, "names the source none"),
    ],
)
def test_provenance_that_names_nobody(yard: Yard, rule: Any, match: str) -> None:
    asks(yard, demand(**rule), "attester")
    publish(yard, "attester", said_of_it={})
    error = refused(yard, "statement-rule", match)
    assert error.found == "none"


def test_provenance_that_is_none(yard: Yard) -> None:
    asks(yard, demand(builders=(BUILDER,)), "attester")
    publish(yard, "attester", said_of_it={"runDetails": 7})
    refused(yard, "envelope", "runDetails")


def test_all_that_count_are_by_a_builder_that_is_named(yard: Yard) -> None:
    """A second opinion that is signed as well, and says otherwise, is a no."""
    asks(yard, demand(builders=(BUILDER,)), "attester")
    run = yard.run("1.0.0")
    good = run.statement(SLSA, BUILT, "attester")
    other = {"runDetails": {"builder": {"id": "https://mallory.example"}}}
    bad = run.statement(SLSA, other, "attester")
    for both in ((good, bad), (bad, good)):
        yard.publish(run, both)
        refused(yard, "statement-rule", "names the builder")


def test_keys_have_names_by_their_material() -> None:
    assert signer("attester").keyid == key("attester").public_key.keyid
