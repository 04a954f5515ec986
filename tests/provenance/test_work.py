"""Work that rules may take: counted over a whole chain, and then no more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.provenance import chain
from margo_supplychain.provenance.chain import LinkFile, ReleaseFacts, verify_chain
from margo_supplychain.provenance.engine import Made, Work, judge
from margo_supplychain.provenance.layouts import read_layout
from margo_supplychain.provenance.rules import ArtifactRule
from tests.world.provenance import Run, envelope, layout

FILES = {f"src/{number}.c": f"{number:064x}" for number in range(100)}
ALL = ArtifactRule("ALLOW", "*")
NONE = ArtifactRule("DISALLOW", "*")
MADE = {"build": Made({}, FILES), "test": Made(FILES, {})}


def test_work_is_taken_once() -> None:
    work = Work(10)
    assert work.spend(6)
    assert not work.spends(5)
    assert not work.is_spent
    assert not work.spend(5)
    assert (work.is_spent, work.left, work.taken) == (True, 4, 6)
    assert Work().left == 1 << 30


@pytest.mark.parametrize(
    "rule",
    [
        ["ALLOW", "src/*"],
        ["CREATE", "*.c"],
        ["MATCH", "*", "WITH", "PRODUCTS", "FROM", "build"],
        ["MATCH", "*", "IN", "src", "WITH", "PRODUCTS", "IN", "src", "FROM", "build"],
        ["DISALLOW", "*/x*"],
        ["REQUIRE", "src/1.c"],
        ["MODIFY", "src/1.c"],
    ],
)
def test_a_rule_that_can_not_be_paid_for_is_not_judged(rule: list[str]) -> None:
    rules = [ArtifactRule.parse(rule), ALL]
    work = Work()
    whole = judge("test", "materials", rules, MADE, work)
    assert whole.findings == ()
    spent = Work().left - work.left
    exact = Work(spent)
    assert judge("test", "materials", rules, MADE, exact) == whole
    assert (exact.left, exact.is_spent) == (0, False)
    short = Work(10)
    found = judge("test", "materials", rules, MADE, short)
    assert short.is_spent
    (finding,) = found.findings
    assert (finding.reason, finding.stricter) == ("rule", "bounded-work")
    assert finding.rule == rules[0].text
    (applied,) = found.applied
    assert not applied.passed
    assert "look at 1073741824 characters" in (applied.wanted or "")


def test_what_a_rule_compares_costs_more_than_what_it_names() -> None:
    def cost(*rule: str) -> int:
        work = Work()
        judge("test", "materials", [ArtifactRule.parse(rule)], MADE, work)
        return Work().left - work.left

    one = cost("ALLOW", "src/1.c")
    assert cost("REQUIRE", "src/1.c") <= one < cost("ALLOW", "*")
    assert cost("ALLOW", "*") < cost("MATCH", "*", "WITH", "PRODUCTS", "FROM", "build")


def test_what_is_refused_is_refused_without_reasons() -> None:
    """Reasons are looked for as long as something is left: they decide nothing."""
    other = dict.fromkeys(FILES, "f" * 64)
    moved = {f"lib/{name}": one for name, one in FILES.items()}
    rule = ["MATCH", "*", "WITH", "PRODUCTS", "FROM", "build"]
    match = ArtifactRule.parse(rule)
    for made, reason in ((other, "finds sha256:ffff"), (moved, "where the same")):
        there = {"build": Made({}, made), "test": Made(FILES, {})}
        work = Work()
        (finding,) = judge("test", "materials", [match, NONE], there, work).findings
        assert reason in (finding.found or "")
        taken = Work().left - work.left
        found = []
        for left in range(taken, 0, -50):
            short = Work(left)
            (one,) = judge("test", "materials", [match, NONE], there, short).findings
            found.append((one.reason, one.found or "", short.is_spent))
            if short.is_spent:
                break
        assert {one for one, _, _ in found} == {"rule"}
        assert "product" not in found[0][1] or reason in found[0][1]
        assert any(reason not in text and not spent for _, text, spent in found)
        assert found[-1][2]


def test_a_chain_stops_where_its_work_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One finding says so, and nothing is said of what was not judged."""
    run = Run("1.0.0", Descriptor.of(b"{}", "application/json"))
    found, _ = read_layout(envelope(layout(), "acme"), what="layout")
    links = [
        LinkFile(step, Digest.of(one.data), one.data)
        for step, one in run.documents().items()
    ]
    facts = ReleaseFacts(run.artifact.digest, {})
    now = datetime(2026, 11, 21, tzinfo=UTC)

    def judged() -> chain.ChainResult:
        return verify_chain(
            found, links, facts, now=now, expires=found.expires, revoked={}
        )

    assert not [one for one in judged().findings if one.reason != "release-product"]
    assert 50 < judged().work < 100_000
    monkeypatch.setattr(chain, "Work", lambda: Work(50))
    result = judged()
    assert result.work <= 50
    findings = [one for one in result.findings if one.reason != "release-product"]
    assert [one.stricter for one in findings] == ["bounded-work"]
    first, *rest = result.trace["steps"]
    assert [one["outcome"] for one in first["rules"]][-1] == "failed"
    assert all(one["rules"] == [] for one in rest)
