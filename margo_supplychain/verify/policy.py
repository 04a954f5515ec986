r"""The device owner's policy: what is demanded beyond the publisher's word.

Rules can only add demands. The most specific pattern decides an application; a tie, or
no match, denies. A policy without patterns, or a pattern without rules, is an error.

Example:
    >>> policy = Policy.from_toml(b'[policy."acme/*"]\nrequire = ["signed"]\n')
    >>> [rule.id for rule in policy.rules_for(ReleaseName.parse("acme/pump"))]
    ['signed']
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, Self, final

from margo_supplychain.errors import FormatError, PolicyError
from margo_supplychain.formats.reports import Violation
from margo_supplychain.formats.times import format_span, parse_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from securesystemslib.signer import Key

    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.verify.clock import Freshness, Moment
    from margo_supplychain.verify.proof import Proof

LIMIT: Final = 1 << 20  # bytes of a policy file
MAX_PATTERNS: Final = 1_000
# Other tables of `device.toml`, read by the command line.
OTHER_TABLES: Final = frozenset({"repository", "mirrors", "registry"})
PROVENANCE: Final = "provenance"
_PATTERN: Final = re.compile(r"[a-z0-9*][a-z0-9*-]*/[a-z0-9*-][a-z0-9.*_-]*", re.ASCII)


class ProvenanceDemand(NamedTuple):
    """What a device demands of how releases were made, beyond their publisher.

    Args:
        required: a layout and its links, whether the publisher demands them or not.
        tier: `summary` where somebody else's judgement of the chain counts; nothing
            else does then.
        summary_keys: whose, besides those that the publisher's policy names.
        summary_age: since when, for the device's own keys, and at most for the
            publisher's; None where the publisher's rule alone decides.
        kinds: of statements that the device's rules look at.
    """

    required: bool = False
    tier: Literal["full", "summary"] = "full"
    summary_keys: tuple[Key, ...] = ()
    summary_age: timedelta | None = None
    kinds: frozenset[str] = frozenset()

    @property
    def asks(self) -> bool:
        """Whether it asks for anything."""
        return self.required or bool(self.kinds)

    @classmethod
    def of(cls, demands: Sequence[ProvenanceDemand]) -> Self:
        """Return what several rules demand together."""
        ages = [one.summary_age for one in demands if one.summary_age is not None]
        return cls(
            required=any(one.required for one in demands),
            tier="summary" if any(one.tier == "summary" for one in demands) else "full",
            summary_keys=tuple(key for one in demands for key in one.summary_keys),
            summary_age=min(ages, default=None),
            kinds=frozenset[str]().union(*(one.kinds for one in demands)),
        )


class Facts(NamedTuple):
    """What a rule may judge; all of it verified.

    Args:
        profile: `simple`, or `delegated` for standard and small.
        signers: how many distinct keys signed each role of the chain.
        age: time since the timestamp was issued, or None when the clock can't tell.
        moment: the time that the release is judged at; None where no rule asks.
        proof: how it was made; None where nobody asks.
    """

    name: ReleaseName
    record: ReleaseRecord
    publisher_policy: PublisherPolicy
    profile: Literal["delegated", "simple"]
    signers: Mapping[str, int]
    freshness: Freshness
    age: timedelta | None
    moment: Moment | None = None
    proof: Proof | None = None


class Rule(Protocol):
    """One demand.

    A rule that looks at how a release was made also has an attribute `demands`, a
    `ProvenanceDemand`: what it does not ask for is not read.
    """

    @property
    def id(self) -> str:
        """What policies and reports call it."""

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return every way in which the facts fall short."""


class Signed(NamedTuple):
    """Every role of the chain was signed by its threshold."""

    id: str = "signed"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation for each role that nobody signed."""
        if not facts.signers:
            return (Violation(rule=self.id, text="no role signed the release"),)
        return tuple(
            Violation(rule=self.id, text=f"nobody signed {role}")
            for role, count in facts.signers.items()
            if count < 1
        )


class ClosureComplete(NamedTuple):
    """Every component and container image is named by digest."""

    id: str = "closure-complete"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation unless the record's closure is complete."""
        if facts.record.closure == "complete":
            return ()
        missing = [one.reference for one in facts.record.images if one.digest is None]
        named = f" ({', '.join(missing[:5])})" if missing else ""
        return (
            Violation(
                rule=self.id,
                text=f"the release does not pin all its container images{named}",
            ),
        )


class MaxAge(NamedTuple):
    """The timestamp is younger than a limit."""

    limit: timedelta
    id: str = "max-age"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation if the timestamp is older, or its age unknown."""
        if facts.age is None:
            limit = format_span(self.limit)
            text = f"age unknown, at most {limit} allowed: the clock can't tell"
            return (Violation(rule=self.id, text=text, inconclusive=True),)
        if facts.age > self.limit:
            text = (
                f"the timestamp is {format_span(facts.age)} old, at most "
                f"{format_span(self.limit)} allowed"
            )
            return (Violation(rule=self.id, text=text),)
        return ()


class AllowSimpleProfile(NamedTuple):
    """Releases of repositories without delegations are allowed."""

    id: str = "allow-simple-profile"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Demand nothing; `judge` looks for this rule by name."""
        del facts
        return ()


@final
class Policy:
    """Which rules hold for which applications.

    Args:
        rules: pattern → rules. A pattern is `<publisher>/<name>`, each with `*` for
            any characters; `*` never crosses the slash.

    Raises:
        FormatError: no pattern, a pattern without rules, or not a pattern.
    """

    def __init__(self, rules: Mapping[str, Sequence[Rule]]) -> None:
        # check 5.1: an empty policy would pass everything
        if not rules:
            raise FormatError("the policy has no patterns, so it allows nothing")
        if len(rules) > MAX_PATTERNS:
            raise FormatError(f"the policy has more than {MAX_PATTERNS} patterns")
        for pattern, found in rules.items():
            if _PATTERN.fullmatch(pattern) is None:
                raise FormatError(
                    f"policy pattern {pattern[:80]!r} is not <publisher>/<name> with *"
                )
            # check 5.2: an empty list never passes, nor one that only allows
            if all(isinstance(rule, AllowSimpleProfile) for rule in found):
                raise FormatError(f"policy pattern {pattern} requires nothing")
        self._rules = {pattern: tuple(found) for pattern, found in rules.items()}

    @classmethod
    def from_toml(cls, data: bytes) -> Self:
        """Read the `[policy."…"]` tables of a `device.toml`.

        Each takes `require` (a list: `signed`, `closure-complete`, `provenance`),
        `max-age` (such as `"7d"`; s, m, h, d), `allow-simple-profile` (true), and what
        `verify.statement_rules` says of provenance and statements.

        Raises:
            FormatError: not TOML, or an unknown key or rule.
        """
        import tomllib

        if len(data) > LIMIT:
            raise FormatError(f"the policy has more than {LIMIT} bytes")
        try:
            tables = tomllib.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as why:
            raise FormatError(f"the policy is not TOML: {why}") from why
        unknown = sorted(tables.keys() - OTHER_TABLES - {"policy"})
        if unknown:
            raise FormatError(f"the policy has an unknown table {unknown[0]!r:.80}")
        patterns = tables.get("policy", {})
        if not isinstance(patterns, dict):
            raise FormatError('the policy is not a table like [policy."acme/*"]')
        return cls({one: _rules_of(one, table) for one, table in patterns.items()})

    def rules_for(self, name: ReleaseName) -> tuple[Rule, ...]:
        """Return the rules of the most specific pattern that matches.

        Raises:
            PolicyError: no pattern matches, or two match equally.
        """
        ranked: dict[tuple[int, int], list[str]] = {}
        for pattern in self._rules:
            if _matches(pattern, name):
                ranked.setdefault(_specificity(pattern), []).append(pattern)
        # check 5.3: no match denies
        if not ranked:
            raise PolicyError(f"the device's policy names no pattern for {name}")
        best = ranked[max(ranked)]
        # check 5.4: a tie denies
        if len(best) > 1:
            raise PolicyError(
                f"the device's policy has two equal patterns for {name}: "
                f"{' and '.join(sorted(best))}"
            )
        return self._rules[best[0]]

    def demand_for(self, name: ReleaseName) -> ProvenanceDemand:
        """Return what the rules of an application ask about how it was made."""
        try:
            rules = self.rules_for(name)
        except PolicyError:
            return ProvenanceDemand()  # nothing is allowed anyway: `judge` says so
        asked: list[ProvenanceDemand] = []
        for rule in rules:
            found = getattr(rule, "demands", None)
            if found is not None:
                asked.append(found)
        return ProvenanceDemand.of(asked)


def judge(policy: Policy, facts: Facts) -> tuple[Violation, ...]:
    """Return every violation of the device's policy."""
    rules = policy.rules_for(facts.name)
    found: list[Violation] = []
    for rule in rules:
        found.extend(rule.violations(facts))
    # check 5.5: one key decides everything in `simple`; the owner must want that
    if facts.profile == "simple" and not any(
        isinstance(rule, AllowSimpleProfile) for rule in rules
    ):
        found.append(
            Violation(
                rule=AllowSimpleProfile().id,
                text="the repository has the profile simple, and the device's policy "
                "does not allow it",
            )
        )
    return tuple(found)


def _rules_of(pattern: str, table: Any) -> list[Rule]:
    where = f'policy."{pattern}"'
    if not isinstance(table, dict):
        raise FormatError(f"{where} is not a table")
    rules: list[Rule] = []
    others: list[str] = []
    for key, value in table.items():
        if key == "require":
            rules.extend(_required(where, value))
        elif key == "max-age":
            rules.append(MaxAge(_age(f"{where}.max-age", value)))
        elif key == "allow-simple-profile":
            if value is not True:
                raise FormatError(f"{where}.{key} is {value!r:.40}, expected true")
            rules.append(AllowSimpleProfile())
        else:
            others.append(key)
    required = PROVENANCE in table.get("require", ())
    if others or required:
        from margo_supplychain.verify import statement_rules

        unknown = [key for key in others if key not in statement_rules.KEYS]
        if unknown:
            raise FormatError(f"{where} has an unknown key {unknown[0]!r:.80}")
        rules.extend(statement_rules.rules_of(where, table, required=required))
    if "require" not in table:
        raise FormatError(f'{where} requires nothing, expected require = ["signed"]')
    return rules


def _required(where: str, value: Any) -> list[Rule]:
    known: dict[str, Rule] = {one.id: one for one in (Signed(), ClosureComplete())}
    if not isinstance(value, list) or not value:
        raise FormatError(f"{where}.require is {value!r:.40}, expected a list of rules")
    for one in value:
        if not isinstance(one, str) or (one not in known and one != PROVENANCE):
            raise FormatError(
                f"{where}.require has an unknown rule {one!r:.80}, expected "
                f"{', '.join(known)} or {PROVENANCE}"
            )
    # What `provenance` demands is said by other keys of the table, too.
    return [known[one] for one in dict.fromkeys(value) if one != PROVENANCE]


def _age(where: str, value: Any) -> timedelta:
    found = parse_span(value, what=where)
    if not found:
        raise FormatError(f"{where} is {value}, expected a time above 0")
    return found


def _matches(pattern: str, name: ReleaseName) -> bool:
    publisher, _, application = pattern.partition("/")
    return _half_matches(publisher, name.publisher) and _half_matches(
        application, name.name
    )


def _half_matches(pattern: str, text: str) -> bool:
    # By hand: a regular expression of many stars would search for hours.
    first, *others = pattern.split("*")
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    at = len(first)
    for part in others[:-1]:
        found = text.find(part, at)
        if found == -1:
            return False
        at = found + len(part)
    return text.endswith(others[-1]) and at <= len(text) - len(others[-1])


def _specificity(pattern: str) -> tuple[int, int]:
    halves = pattern.split("/")
    exact = sum("*" not in half for half in halves)
    return exact, len(pattern) - pattern.count("*")
