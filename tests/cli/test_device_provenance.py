"""How a release was made, as `device verify` tells it: words, JSON and pictures.

The chain itself is judged elsewhere (tests/provenance, tests/attacks); here is what its
findings look like to whoever has to mend them.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.cli.device_chain import _rule, words
from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.reports import Report, Step
from tests.cli import running
from tests.cli.plant import now
from tests.cli.proven_plant import Proven
from tests.cli.running import validate
from tests.world.provenance import CYCLONEDX, PAYLOAD, envelope, keyid
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plant(place: Path) -> Proven:
    made = Proven(place)
    made.release_of(made.made("1.2.0"))
    assert made.init().status == 0
    return made


def swapped(plant: Proven) -> None:
    """Publish a release whose tester tested something else than was built."""
    run = plant.made("1.3.0")
    run.links["test"]["materials"]["out/pump.wasm"] = {"sha256": "00" * 32}
    plant.release_of(run)


# --- yes -----------------------------------------------------------------------------


def test_a_line_says_what_it_went_through(plant: Proven) -> None:
    ran = plant.verify()
    assert ran.status == 0
    assert ran.out.splitlines()[-1] == (
        "  provenance  3 steps, 3 functionaries, layout 2"
    )
    fetched = plant.fetch()
    assert fetched.status == 0


def test_as_json(plant: Proven) -> None:
    document = plant.verify(json=True).json
    validate(document, "device-verify")
    proof = document["result"]["provenance"]
    assert (proof["tier"], proof["layout"], proof["summary"]) == ("full", 2, None)
    assert [one["name"] for one in proof["steps"]] == ["build", "test", "package"]
    assert proof["steps"][0]["functionaries"] == [keyid("builder")]
    assert len(proof["functionaries"]) == 3
    assert proof["layoutSignedBy"] == [keyid("acme")]


def test_explained_in_words(plant: Proven) -> None:
    lines = plant.verify("^1.0", "--explain").out.splitlines()
    at = lines.index("  how it was made, step by step:")
    told = [one.strip() for one in lines[at + 1 :]]
    assert told[0] == "build, by 1 or more"
    assert told[1].endswith(f" by {keyid('builder')[:12]} counted")
    assert told[2] == 'materials  ALLOW src/*  1 artifact, such as "src/pump.c"'
    assert told[3] == "materials  DISALLOW *  holds"
    assert 'build and test have 1 artifact in common, such as "out/pump.wasm"' in told
    assert told[-1] == "package made this release: 2 products with its digests"
    assert "{" not in "".join(lines)


def test_explained_as_json(plant: Proven) -> None:
    ran = plant.verify("^1.0", "--explain-to", "chain.json")
    assert (ran.status, ran.out.splitlines()[-1]) == (0, "wrote chain.json")
    document = json.loads((plant.place / "chain.json").read_bytes())
    validate(document, "trace")
    assert document["verdict"] == "verified"
    assert (document["release"], document["error"]) == ("acme/pump-monitor@1.2.0", None)
    assert [one["name"] for one in document["trace"]["steps"]] == [
        "build",
        "test",
        "package",
    ]


def test_explained_as_pictures(plant: Proven) -> None:
    for name in ("chain.svg", "chain.dot"):
        assert plant.verify("^1.0", "--explain-to", name).status == 0
    picture = ET.fromstring((plant.place / "chain.svg").read_bytes())  # noqa: S314 - ours
    said = " ".join(picture.itertext())
    for text in (
        "acme/pump-monitor ^1.0: verified 1.2.0",
        "acme/pump-monitor@1.2.0",
        "build",
        f"signed by 1, 1 needed: {keyid('builder')[:12]}",
        "package",
        "made 2 prod",
    ):
        assert text in said
    dot = (plant.place / "chain.dot").read_text()
    assert '"build" -> "test" [label="1 artifact, such as out/pump.wasm"]' in dot


def test_statements_are_counted(plant: Proven) -> None:
    public = PolicyKey.of(key("scanner").public_key)
    rule = AttestationRule(type=CYCLONEDX, keyids=(public.keyid,))
    plant.demand(keys=(public,), attestations=(rule,))
    run = plant.made("1.3.0")
    bom = run.statement(f"{CYCLONEDX}/v1.6", {"components": []}, "scanner")
    plant.release_of(run, [*run.documents().values(), bom])
    ran = plant.verify()
    assert "provenance  3 steps, 3 functionaries, layout 2, 1 statement\n" in ran.out
    document = plant.verify(json=True).json
    validate(document, "device-verify")
    (found,) = document["result"]["provenance"]["statements"]
    assert len(found["signers"]) == 1
    explained = plant.verify("^1.0", "--explain").out
    assert f"statements {CYCLONEDX}/v1.6" in explained
    # Without it the publisher's demand is not met, and it is said which.
    plant.release_of(plant.made("1.4.0"))
    ran = plant.verify()
    assert ran.status == 3
    assert "[attestation: missing-attestation]" in ran.err
    assert f"  type     {CYCLONEDX}\n" in ran.err


def test_statements_alone_may_be_demanded(place: Path) -> None:
    made = Proven(place)
    public = PolicyKey.of(key("scanner").public_key)
    made.demand(
        provenance="none",
        layouts=(),
        keys=(public,),
        attestations=(AttestationRule(type=CYCLONEDX, keyids=(public.keyid,)),),
    )
    run = made.made("1.2.0")
    bom = run.statement(f"{CYCLONEDX}/v1.6", {"components": []}, "scanner")
    made.release_of(run, [bom], layout=None)
    assert made.init().status == 0
    ran = made.verify("^1.0", "--explain-to", "chain.dot")
    assert ran.out.splitlines()[-2:] == [
        "  provenance  none demanded, 1 statement",
        "wrote chain.dot",
    ]
    assert "none demanded, 1 statement" in (place / "chain.dot").read_text()
    document = made.verify(json=True).json
    validate(document, "device-verify")
    assert document["result"]["provenance"]["layout"] is None


# --- no ------------------------------------------------------------------------------


def test_a_refusal_names_step_rule_artifact_found_and_wanted(plant: Proven) -> None:
    swapped(plant)
    ran = plant.verify()
    assert (ran.status, ran.out) == (3, "rejected acme/pump-monitor ^1.0\n")
    lines = ran.err.splitlines()
    assert lines[0].startswith("error: acme/pump-monitor 1.3.0: material ")
    assert lines[0].endswith(" [provenance: rule]")
    rows = dict(one.split(maxsplit=1) for one in lines[1:-1])
    assert rows["step"] == "test"
    assert rows["rule"] == "DISALLOW *"
    assert rows["artifact"] == "out/pump.wasm"
    assert rows["found"]
    assert rows["wanted"]
    assert lines[-1].endswith("; --explain says how each step was judged")
    explained = plant.verify("^1.0", "--explain").err
    assert "note:   test, by 1 or more\n" in explained
    assert "note: not proven: material " in explained
    assert "--explain says" not in explained


def test_a_refusal_as_json_has_the_trace_once(plant: Proven) -> None:
    swapped(plant)
    document = plant.verify(json=True).json
    validate(document, "error")
    validate(document["report"], "report")
    facts = document["error"]["facts"]
    assert (facts["reason"], facts["step"]) == ("rule", "test")
    assert facts["trace"] is None
    step = document["report"]["steps"][-1]
    assert (step["number"], step["outcome"]) == (4, "failed")
    assert step["facts"]["trace"]["findings"][0]["reason"] == "rule"


def test_many_findings_are_counted(plant: Proven) -> None:
    run = plant.made("1.3.0")
    for step in ("build", "test", "package"):
        for side in ("materials", "products"):
            run.links[step][side]["left/over"] = {"sha256": "11" * 32}
    plant.release_of(run)
    ran = plant.verify()
    assert ran.status == 3
    also = [one for one in ran.err.splitlines() if one.startswith("  also ")]
    assert len(also) == 5
    assert also[-1].endswith(" more")


@pytest.mark.parametrize("name", ["chain.json", "chain.dot", "chain.svg"])
def test_a_refusal_is_explained_too(plant: Proven, name: str) -> None:
    swapped(plant)
    ran = plant.verify("^1.0", "--explain-to", name)
    assert ran.status == 3
    assert f"note: wrote {name}\n" in ran.err
    text = (plant.place / name).read_text("utf-8")
    assert "out/pump.wasm" in text
    assert "rejected" in text
    if name == "chain.json":
        document = json.loads(text)
        validate(document, "trace")
        assert document["code"] == "provenance"
        assert document["error"]["reason"] == "rule"
        assert document["error"]["wanted"]
        assert document["trace"]["findings"][0]["step"] == "test"


@pytest.mark.parametrize("name", ["chain.json", "chain.dot", "chain.svg"])
def test_what_was_never_reached_is_said(plant: Proven, name: str) -> None:
    ran = plant.verify("^3", "--explain-to", name)
    assert ran.status == 3
    text = (plant.place / name).read_text("utf-8")
    if name == "chain.json":
        validate(json.loads(text), "trace")
        document = json.loads(text)
        assert (document["trace"], document["release"]) == (None, None)
        assert document["error"]["message"].startswith("no release inside ^3")
    else:
        assert "no release inside ^3" in text
        assert "provenance: not reached" in text
        assert "no chain of steps was judged" in text


@pytest.mark.parametrize("name", ["chain.json", "chain.dot", "chain.svg"])
def test_a_policy_s_no_behind_a_chain_that_holds_is_shown(
    plant: Proven, name: str
) -> None:
    plant.edit('require = ["signed"]', 'require = ["signed"]\nsbom = ["spdx"]')
    ran = plant.verify("^1.0", "--explain-to", name)
    assert (ran.status, ran.err.count("no statement that counts is spdx")) == (3, 1)
    text = (plant.place / name).read_text("utf-8")
    assert "violates the device" in text
    assert "is spdx; the release has none" in text.replace("\\n", " ")
    assert "acme/pump-monitor@1.2.0" in text


def test_a_rule_that_took_nothing_does_not_hold() -> None:
    row = {"outcome": "passed", "consumed": 0, "artifacts": []}
    assert _rule(row | {"rule": "MATCH * WITH PRODUCTS FROM a"}).endswith("nothing")
    assert _rule(row | {"rule": "REQUIRE a"}) == "REQUIRE a  holds"


def test_an_unexpected_link_is_shown(plant: Proven) -> None:
    run = plant.made("1.3.0")
    documents = run.documents()
    run.links["build"]["byproducts"] = {"return-value": 0}
    strange = run.documents()["build"]._replace(step="deploy")
    plant.release_of(run, [*documents.values(), strange])
    ran = plant.verify("^1.0", "--explain")
    assert ran.status == 3
    assert 'note:   "deploy", which is no step of the layout\n' in ran.err
    assert "[provenance: unexpected-link]" in ran.err


def test_another_release_is_shown(plant: Proven) -> None:
    run = plant.made("1.3.0")
    other = plant.made("1.2.0").documents()
    plant.release_of(run, other.values())
    ran = plant.verify("^1.0", "--explain", "--explain-to", "chain.svg")
    assert ran.status == 3
    said = 'package did not make "release/manifest" of this release'
    assert f"note: {said}\n" in ran.err
    assert "not made: release/manifest" in (plant.place / "chain.svg").read_text()


def test_what_is_too_much_to_say_is_counted() -> None:
    trace: dict[str, Any] = {
        "steps": [],
        "unexpected": [],
        "edges": [],
        "release": {"step": "package", "artifact": "sha256:0", "products": []},
        "findings": [{"reason": "rule", "text": "a rule"}],
        "more_findings": 7,
    }
    step = Step(number=4, title="provenance", outcome="failed", facts={"trace": trace})
    report = Report(
        subject="acme/pump 1",
        verdict="rejected",
        code="provenance",
        time=now(),
        steps=(step,),
    )
    assert words(report)[-2:] == ["not proven: a rule", "not proven: 7 more"]


# --- summaries -----------------------------------------------------------------------


def small(plant: Proven, *more: str) -> None:
    """Let the device take summaries, of whoever the publisher names."""
    plant.edit(
        'require = ["signed"]',
        'require = ["signed", "provenance"]\nprovenance = "summary"',
    )
    public = PolicyKey.of(key("verifier").public_key)
    plant.demand(
        keys=(public,),
        summary=SummaryRule(
            keyids=(public.keyid,), threshold=1, max_age=timedelta(days=30)
        ),
    )
    plant.publish()


def summed_up(plant: Proven) -> None:
    """Write `vsa.json`, and the same signed as `summary.json`."""
    assert plant.verify("^1.0", "--vsa", "vsa.json").status == 0
    statement = (plant.place / "vsa.json").read_bytes()
    signed = envelope(statement, "verifier", payload_type=PAYLOAD)
    (plant.place / "summary.json").write_bytes(signed)


def test_a_summary_is_written_signed_and_taken(plant: Proven) -> None:
    summed_up(plant)
    small(plant)
    ran = plant.verify()
    assert ran.status == 3
    assert "summary" in ran.err
    ran = plant.verify("^1.0", "--summary", "summary.json")
    assert ran.status == 0, ran.err
    who = keyid("verifier")[:12]
    assert f"provenance  a summary by {who}, layout 2\n" in ran.out
    document = plant.verify("^1.0", "--summary", "summary.json", json=True).json
    validate(document, "device-verify")
    proof = document["result"]["provenance"]
    assert (proof["tier"], proof["summary"]["keyIds"]) == (
        "summary",
        [keyid("verifier")],
    )
    # Who fetches has to prove it as well.
    assert plant.fetch().status == 3
    assert plant.fetch("^1.0", "--summary", "summary.json").status == 0
    ran = plant.verify("^1.0", "--summary", "summary.json", "--explain-to", "a.svg")
    assert ran.status == 0
    assert "a summary by" in (plant.place / "a.svg").read_text()


def test_a_plant_s_own_verifier_signs_one(plant: Proven, secret: str) -> None:
    """As docs/how-to/device.md says: one device looks, a key signs, others take it."""
    assert plant.verify("^1.0", "--vsa", "vsa.json").status == 0
    package = plant.verify(json=True).json["result"]["package"]["digest"]
    opened = ("--passphrase-file", secret)
    assert running.run("key", "generate", "site.key", *opened).status == 0
    signed = running.run(
        *("attest", "add", "vsa.json", "--subject", package, "--key", "site.key"),
        *("--output", "out", *opened),
    )
    assert signed.status == 0, signed.err
    (summary,) = (plant.place / "out").iterdir()
    pem = (plant.place / "site.pub").read_text().strip().replace("\n", "\\n")
    plant.edit(
        'require = ["signed"]',
        'require = ["signed", "provenance"]\nprovenance = "summary"\n'
        f'summary-keys = ["{pem}"]\nsummary-max-age = "7d"',
    )
    assert plant.verify().status == 3
    ran = plant.verify("^1.0", "--summary", str(summary))
    assert ran.status == 0, ran.err
    assert "provenance  a summary by " in ran.out


def test_no_summary_is_written_of_a_summary(plant: Proven) -> None:
    summed_up(plant)
    small(plant)
    (plant.place / "vsa.json").unlink()
    ran = plant.verify("^1.0", "--summary", "summary.json", "--vsa", "vsa.json")
    assert (ran.status, ran.out) == (2, "")
    assert "vsa.json is not written: it was judged by a summary" in ran.err
    assert not (plant.place / "vsa.json").exists()


def test_a_summary_of_a_no_says_failed(plant: Proven) -> None:
    summed_up(plant)
    swapped(plant)
    assert plant.verify("^1.0", "--vsa", "vsa.json").status == 3
    said = json.loads((plant.place / "vsa.json").read_bytes())
    assert said["predicate"]["verificationResult"] == "FAILED"


def test_no_summary_where_nothing_was_looked_at(plant: Proven) -> None:
    ran = plant.verify("^3", "--vsa", "vsa.json")
    assert ran.status == 3
    assert ran.err.startswith("note: vsa.json is not written: no release was looked")
    assert not (plant.place / "vsa.json").exists()


def test_a_summary_that_can_not_be_read(plant: Proven) -> None:
    ran = plant.verify("^1.0", "--summary", "none.json")
    assert ran.status == 2
    assert "none.json: no such file, expected a verification summary" in ran.err
    (plant.place / "large.json").write_bytes(b" " * ((1 << 20) + 1))
    ran = plant.verify("^1.0", "--summary", "large.json")
    assert ran.status == 2
    assert "large.json has more than 1048576 bytes" in ran.err


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain-to", "chain.png"], "--explain-to chain.png ends in none of .json"),
        (["--explain-to", "a.json", "--vsa", "./a.json"], "one file is named twice"),
        (["--vsa", "s.json", "--summary", "s.json"], "one file is named twice"),
    ],
)
def test_wrong_names_of_files(
    plant: Proven, arguments: list[str], message: str
) -> None:
    ran = plant.verify("^1.0", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err


def test_a_file_that_can_not_be_written_hides_no_verdict(plant: Proven) -> None:
    given = ["--explain-to", "none/chain.svg", "--vsa", "none/vsa.json"]
    ran = plant.verify("^1.0", *given)
    assert (ran.status, ran.out) == (4, "")
    assert "[storage]" in ran.err
    swapped(plant)
    ran = plant.verify("^1.0", *given)
    assert (ran.status, ran.out) == (3, "rejected acme/pump-monitor ^1.0\n")
    assert "note: none/chain.svg is not written: " in ran.err
    assert "note: none/vsa.json is not written: " in ran.err
