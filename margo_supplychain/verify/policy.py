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
from margo_supplychain.formats.times import parse_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.verify.clock import Freshness

LIMIT: Final = 1 << 20  # bytes of a policy file
MAX_PATTERNS: Final = 1_000
# Other tables of `device.toml`, read by the command line.
OTHER_TABLES: Final = frozenset({"repository", "mirrors", "registry"})
_PATTERN: Final = re.compile(r"[a-z0-9*][a-z0-9*-]*/[a-z0-9*-][a-z0-9.*_-]*", re.ASCII)


class Facts(NamedTuple):
    """What a rule may judge; all of it verified.

    Args:
        profile: `simple`, or `delegated` for standard and small.
        signers: how many distinct keys signed each role of the chain.
        age: time since the timestamp was issued, or None when the clock can't tell.
    """

    name: ReleaseName
    record: ReleaseRecord
    publisher_policy: PublisherPolicy
    profile: Literal["delegated", "simple"]
    signers: Mapping[str, int]
    freshness: Freshness
    age: timedelta | None


class Rule(Protocol):
    """One demand."""

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
            text = f"age unknown, at most {self.limit} allowed: the clock can't tell"
            return (Violation(rule=self.id, text=text, inconclusive=True),)
        if facts.age > self.limit:
            text = f"the timestamp is {facts.age} old, at most {self.limit} allowed"
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

        Each takes `require` (a list: `signed`, `closure-complete`), `max-age` (such as
        `"7d"`; s, m, h, d) and `allow-simple-profile` (true).

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
            raise FormatError(f"{where} has an unknown key {key!r:.80}")
    if "require" not in table:
        raise FormatError(f'{where} requires nothing, expected require = ["signed"]')
    return rules


def _required(where: str, value: Any) -> list[Rule]:
    known: dict[str, Rule] = {one.id: one for one in (Signed(), ClosureComplete())}
    if not isinstance(value, list) or not value:
        raise FormatError(f"{where}.require is {value!r:.40}, expected a list of rules")
    for one in value:
        if not isinstance(one, str) or one not in known:
            raise FormatError(
                f"{where}.require has an unknown rule {one!r:.80}, expected "
                f"{' or '.join(known)}"
            )
    return [known[one] for one in dict.fromkeys(value)]


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
