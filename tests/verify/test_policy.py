"""The device owner's policy: which rules hold, and what each finds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError, PolicyError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import Image, ReleaseRecord
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.clock import Freshness
from margo_supplychain.verify.policy import (
    AllowSimpleProfile,
    ClosureComplete,
    Facts,
    MaxAge,
    Policy,
    Signed,
    judge,
)

if TYPE_CHECKING:
    from margo_supplychain.verify.policy import Rule

DAY = timedelta(days=1)
PUMP = ReleaseName.parse("acme/pump-monitor")


def facts(**changes: Any) -> Facts:
    closure = changes.pop("closure", "complete")
    record = ReleaseRecord(
        name=PUMP,
        version=Version.parse("1.0.0"),
        application_version=None,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        artifact=Descriptor.of(b"{}", MANIFEST),
        artifact_type=None,
        locations=(),
        components=(),
        images=changes.pop("images", ()),
        closure=closure,
    )
    values = {
        "name": PUMP,
        "record": record,
        "publisher_policy": PublisherPolicy(epoch=1, provenance="none"),
        "profile": "delegated",
        "signers": {"targets": 1, "acme": 2, "acme.pump-monitor": 1},
        "freshness": Freshness.FRESH,
        "age": timedelta(hours=1),
    }
    return Facts(**{**values, **changes})


def test_signed_wants_every_role_signed() -> None:
    assert Signed().violations(facts()) == ()
    (none,) = Signed().violations(facts(signers={}))
    assert (none.rule, none.text) == ("signed", "no role signed the release")
    (one,) = Signed().violations(facts(signers={"targets": 1, "acme": 0}))
    assert one.text == "nobody signed acme"
    assert not one.inconclusive


def test_closure_complete_names_at_most_five_images() -> None:
    images = tuple(
        Image(component="web", reference=f"nginx:{number}", digest=None)
        for number in range(7)
    )
    (one,) = ClosureComplete().violations(facts(closure="partial", images=images))
    assert one.text.endswith("(nginx:0, nginx:1, nginx:2, nginx:3, nginx:4)")
    assert ClosureComplete().violations(facts()) == ()


def test_max_age_up_to_and_with_its_limit() -> None:
    rule = MaxAge(timedelta(hours=1))
    assert rule.violations(facts()) == ()
    (one,) = rule.violations(facts(age=timedelta(hours=1, seconds=1)))
    assert not one.inconclusive
    (one,) = rule.violations(facts(age=None))
    assert one.inconclusive


def test_every_violation_is_reported() -> None:
    policy = Policy({"*/*": [Signed(), ClosureComplete(), MaxAge(timedelta(hours=1))]})
    found = judge(
        policy,
        facts(signers={}, closure="partial", age=timedelta(days=1), profile="simple"),
    )
    assert [one.rule for one in found] == [
        "signed",
        "closure-complete",
        "max-age",
        "allow-simple-profile",
    ]


def test_simple_profile_is_allowed_by_name() -> None:
    rules: list[Rule] = [Signed()]
    assert judge(Policy({"*/*": rules}), facts()) == ()
    assert len(judge(Policy({"*/*": rules}), facts(profile="simple"))) == 1
    rules.append(AllowSimpleProfile())
    assert judge(Policy({"*/*": rules}), facts(profile="simple")) == ()
    assert judge(Policy({"*/*": rules}), facts()) == ()


def test_a_policy_keeps_its_rules_when_the_caller_changes_them() -> None:
    rules: list[Rule] = [Signed()]
    patterns = {"acme/*": rules}
    policy = Policy(patterns)
    rules.clear()
    patterns.clear()
    assert policy.rules_for(PUMP) == (Signed(),)


def test_a_policy_of_nothing_is_an_error() -> None:
    with pytest.raises(FormatError, match="has no patterns"):
        Policy({})
    with pytest.raises(FormatError, match=r"pattern acme/\* requires nothing"):
        Policy({"*/*": [Signed()], "acme/*": []})


def test_all_that_a_policy_file_may_say() -> None:
    policy = Policy.from_toml(
        b"""
        [repository.acme]
        url = "https://trust.acme.example"

        [policy."acme/pump-*"]
        require = ["closure-complete", "signed", "signed"]
        max-age = "90m"
        allow-simple-profile = true
        """
    )
    assert policy.rules_for(PUMP) == (
        ClosureComplete(),
        Signed(),
        MaxAge(timedelta(minutes=90)),
        AllowSimpleProfile(),
    )


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", min_size=1, max_size=6))
def test_a_star_stands_for_any_characters(pattern: str, name: str) -> None:
    def matches(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(matches(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return text.startswith(pattern[0]) and matches(pattern[1:], text[1:])

    policy = Policy({f"acme/{pattern}": [Signed()], "bolt/*": [Signed()]})
    try:
        policy.rules_for(ReleaseName("acme", name))
    except PolicyError:
        assert not matches(pattern, name)
    else:
        assert matches(pattern, name)


def test_a_star_never_crosses_the_slash() -> None:
    for pattern in ("a*/pump", "ac*-monitor/*", "*/acme-pump*"):
        with pytest.raises(PolicyError, match="names no pattern"):
            Policy({pattern: [Signed()]}).rules_for(PUMP)


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    policy = Policy({"acme/" + "*a" * 90 + "*b": [Signed()], "*/*": [MaxAge(DAY)]})
    begin = time.monotonic()
    assert policy.rules_for(ReleaseName("acme", "a" * 200)) == (MaxAge(DAY),)
    assert policy.rules_for(ReleaseName("acme", "a" * 199 + "b")) == (Signed(),)
    assert time.monotonic() - begin < 5
