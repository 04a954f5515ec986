r"""A device's rules about how releases were made and what is attested to of them.

In a `device.toml`, beside `require` and `max-age`:

    require = ["signed", "provenance"]    a layout and its links, whoever else asks
    provenance = "summary"                a summary counts for the chain ("full": not)
    summary-keys = ["-----BEGIN …"]       of whom, besides whom the publisher names
    summary-max-age = "30d"               and since when
    builder = ["https://…"]               SLSA provenance, by one of these builders
    source = ["https://…"]                and from these repositories alone
    sbom = ["cyclonedx", "spdx"]          a list of components, in one of these forms
    vex-max-age = "30d"                   nothing affected without mitigation for longer
    supported = true                      a known end of support that lies ahead

Only statements that count by the publisher's rules are looked at (`verify.attested`). A
rule that finds none of what it looks for is violated: leaving a document out must never
turn a no into a yes. Where the clock can't be believed, a rule about time is a no only
by what is signed, and else inconclusive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.plain_text import plain, quoted
from margo_supplychain.formats.predicates import kind_of
from margo_supplychain.formats.reports import Violation
from margo_supplychain.formats.times import (
    EARLIEST,
    format_span,
    format_time,
    parse_span,
)
from margo_supplychain.verify.clock import SLACK
from margo_supplychain.verify.policy import ProvenanceDemand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from securesystemslib.signer import Key

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.verify.attested import ProvenStatement
    from margo_supplychain.verify.policy import Facts, Rule

MAX_NAMES: Final = 64
MAX_SHOWN: Final = 5
_SUMMARY_KEYS: Final = ("summary-keys", "summary-max-age")
_PROVENANCE: Final = frozenset({"provenance"})
_CYCLONEDX: Final = frozenset({"sbom-cyclonedx"})
_VEX: Final = frozenset({"vex-openvex", "vex-csaf"})


class Provenance(NamedTuple):
    """How the release was made is proven, in a way that the device takes."""

    demands: ProvenanceDemand
    id: str = "provenance"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation if a chain is required and none was proven."""
        proven = facts.proof is not None and facts.proof.layout is not None
        # check 5.20: step 4 proves it, and nothing else does
        if self.demands.required and not proven:
            return _no(self.id, "how the release was made is not proven")
        return ()


class Builder(NamedTuple):
    """Whoever built the release is one of these."""

    names: tuple[str, ...]
    id: str = "builder"
    demands: ProvenanceDemand = ProvenanceDemand(kinds=_PROVENANCE)

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation for provenance by others, or for none."""
        from margo_supplychain.provenance.documents import builder_of

        found = _statements(facts, _PROVENANCE)
        # check 5.21: somebody says who built it
        if not found:
            return _missing(
                self.id,
                facts,
                _PROVENANCE,
                f"no statement that counts names a builder{_allowed(self.names)}",
            )
        others = [
            one
            for one in (builder_of(each.statement) for each in found)
            if one not in self.names
        ]
        # check 5.22: and nobody says that it was somebody else
        if others:
            return _no(self.id, f"built by {_said(others[0])}{_allowed(self.names)}")
        return ()


class Source(NamedTuple):
    """Everything that the release was built from is in these repositories."""

    names: tuple[str, ...]
    id: str = "source"
    demands: ProvenanceDemand = ProvenanceDemand(kinds=_PROVENANCE)

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation for provenance from elsewhere, or from nowhere."""
        from margo_supplychain.provenance.documents import repository, sources_of

        found = _statements(facts, _PROVENANCE)
        sources = [sources_of(each.statement) for each in found]
        # check 5.23: somebody says what it was built from, in every statement
        if not all(sources) or not sources:
            return _missing(
                self.id,
                facts,
                _PROVENANCE,
                f"no statement that counts names a source{_allowed(self.names)}",
            )
        allowed = {repository(one) for one in self.names}
        others = [one for each in sources for one in each if one not in allowed]
        # check 5.24: and nobody says that it was something else
        if others:
            return _no(self.id, f"built from {_said(others[0])}{_allowed(allowed)}")
        return ()


class Sbom(NamedTuple):
    """The release comes with a list of its components, in one of these forms."""

    kinds: tuple[str, ...]
    demands: ProvenanceDemand
    id: str = "sbom"

    @classmethod
    def of(cls, kinds: tuple[str, ...]) -> Sbom:
        """Make the rule for `cyclonedx`, `spdx` or both."""
        named = frozenset(f"sbom-{one}" for one in kinds)
        return cls(kinds, ProvenanceDemand(kinds=named))

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation unless there is one."""
        from margo_supplychain.provenance.documents import sbom_of

        statements = _statements(facts, self.demands.kinds)
        sboms = [sbom_of(one.statement) for one in statements]
        # check 5.25: leaving it out is no way around it
        if not sboms:
            return _missing(
                self.id,
                facts,
                self.demands.kinds,
                f"no statement that counts is {_either(self.kinds)}",
            )
        # check 5.31: nor is leaving out what it is made of
        if not any(one is not None and one.components for one in sboms):
            return _no(self.id, "no statement that counts lists a component")
        return ()


class VexMaxAge(NamedTuple):
    """No vulnerability has affected the release for longer, without mitigation."""

    limit: timedelta
    id: str = "vex-max-age"
    demands: ProvenanceDemand = ProvenanceDemand(kinds=_VEX | _CYCLONEDX)

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation for each that has, or if nobody says anything of any."""
        from margo_supplychain.provenance.documents import vulnerabilities

        found = [
            one.statement
            for one in _statements(facts, _VEX | _CYCLONEDX)
            # A list of components is no word about vulnerabilities.
            if one.kind in _VEX
            or one.statement.predicate.get("vulnerabilities") is not None
        ]
        # check 5.26: nothing said is not nothing found
        if not found:
            return _missing(
                self.id,
                facts,
                self.demands.kinds,
                "no statement that counts speaks of vulnerabilities",
            )
        known = vulnerabilities(
            found,
            _parts(facts.record),
            repositories=_repositories(facts.record),
            latest=_latest(facts),
        )
        violations = [
            violation
            for one in known
            if one.status == "affected" and not one.has_mitigation
            for violation in _since(
                facts,
                self.id,
                one.since,
                self.limit,
                f"{plain(one.id)} affects it without mitigation since "
                f"{format_time(one.since)}, at most {format_span(self.limit)} allowed",
            )
        ]
        ahead = [
            Violation(
                rule=self.id,
                text=f"what is said of {plain(one.id)} holds as of "
                f"{format_time(one.ahead)}, which is still to come",
                inconclusive=True,
            )
            for one in known
            if one.ahead is not None
        ]
        # check 5.32 (instead: ahead = []): what holds from tomorrow decides nothing
        return _few(self.id, violations) + _few(self.id, ahead)


class Supported(NamedTuple):
    """The release's support has a known end, and it lies ahead."""

    id: str = "supported"
    demands: ProvenanceDemand = ProvenanceDemand(kinds=_CYCLONEDX)

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation if support has ended, or nobody says when it does."""
        from margo_supplychain.provenance.documents import support_end

        ends = [
            end
            for one in _statements(facts, _CYCLONEDX)
            if (end := support_end(one.statement)) is not None
        ]
        # check 5.27: support without an end is support that nobody promised
        if not ends:
            return _missing(
                self.id,
                facts,
                _CYCLONEDX,
                "no statement that counts says when support ends",
            )
        end = min(ends)
        return _since(
            facts, self.id, end, None, f"its support ended {format_time(end)}"
        )


class Read(NamedTuple):
    """A rule whose documents may be broken: that is a violation like any other."""

    rule: Builder | Source | Sbom | VexMaxAge | Supported

    @property
    def id(self) -> str:
        """What policies and reports call it."""
        return self.rule.id

    @property
    def demands(self) -> ProvenanceDemand:
        """What it looks at."""
        return self.rule.demands

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return every way in which the facts fall short."""
        try:
            return self.rule.violations(facts)
        except FormatError as why:
            # check 5.28 (instead: return ()): what can't be read says nothing good
            return _no(self.id, str(why))


def _no(rule: str, text: str) -> tuple[Violation, ...]:
    return (Violation(rule=rule, text=text),)


def _statements(facts: Facts, kinds: frozenset[str]) -> list[ProvenStatement]:
    if facts.proof is None:
        return []
    return [one for one in facts.proof.statements if one.kind in kinds]


def _missing(
    rule: str, facts: Facts, kinds: frozenset[str], text: str
) -> tuple[Violation, ...]:
    return _no(rule, text + _whether(facts, kinds))


def _whether(facts: Facts, kinds: frozenset[str]) -> str:
    """Say whose doing it is that nothing counts: is there any that might?"""
    if _statements(facts, kinds):
        return ""
    if any(kind_of(one.type) in kinds for one in facts.record.attestations):
        return (
            "; the release has one, and the publisher's policy names nobody whose "
            "statements of its type count"
        )
    return "; the release has none"


def _few(rule: str, violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """Return the first violations, worst first, and how many more there are."""
    first = sorted(violations, key=lambda one: one.inconclusive)
    if len(first) > MAX_SHOWN:
        more = len(first) - MAX_SHOWN
        unclear = first[MAX_SHOWN].inconclusive
        text = f"and {more} more like these"
        rest = Violation(rule=rule, text=text, inconclusive=unclear)
        first = [*first[:MAX_SHOWN], rest]
    return tuple(first)


def _parts(record: ReleaseRecord) -> list[Digest]:
    """Return everything that a release is made of, by digest."""
    images = [one.digest for one in record.images if one.digest is not None]
    components = [one.content.digest for one in record.components]
    return [record.artifact.digest, *components, *images]


def _repositories(record: ReleaseRecord) -> list[str]:
    """Return where the parts lie that may hold others, such as platforms' images."""
    components = [one.repository for one in record.components]
    return [*components, *(one.reference for one in record.images)]


def _latest(facts: Facts) -> datetime:
    """Return the latest time as of which anything can be known by now."""
    moment = facts.moment
    if moment is None:
        return EARLIEST
    now = moment.now if moment.believable else moment.floor
    return EARLIEST if now is None else now + SLACK


def _since(
    facts: Facts, rule: str, when: datetime, limit: timedelta | None, text: str
) -> tuple[Violation, ...]:
    """Return a violation if `when` is longer ago than a limit, or if it is past."""
    moment = facts.moment
    is_believed = moment is not None and moment.believable
    known = [moment.now if is_believed else moment.floor] if moment is not None else []
    # check 5.29: what has lasted too long is too much, by what is signed alone as well
    if any(one is not None and _passed(one, when, limit) for one in known):
        return _no(rule, text)
    # check 5.30: a clock that can't be believed proves nothing
    if not is_believed:
        return (
            Violation(
                rule=rule,
                text=f"the clock can't tell whether {text}",
                inconclusive=True,
            ),
        )
    return ()


def _passed(now: datetime, when: datetime, limit: timedelta | None) -> bool:
    return now >= when if limit is None else now - when > limit


def _said(one: str | None) -> str:
    return "nobody" if one is None else quoted(one)


def _allowed(names: Iterable[str]) -> str:
    return f", allowed: {', '.join(sorted(names)[:MAX_SHOWN])}"


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


# --- reading a policy's table --------------------------------------------------------


def rules_of(where: str, table: Mapping[str, Any], *, required: bool) -> list[Rule]:
    """Return the rules that a table of a policy asks for.

    Args:
        where: names the table in errors.
        table: with the keys that are read here, among others.
        required: whether its `require` has `provenance`.

    Raises:
        FormatError: a value that is none, or keys that go with others.
    """
    rules: list[Rule] = []
    if required or {"provenance", *_SUMMARY_KEYS} & table.keys():
        rules.append(Provenance(_demand(where, table, required=required)))
    rules.extend(
        Read(read(f"{where}.{key}", table[key]))
        for key, read in _READERS.items()
        if key in table
    )
    return rules


def _demand(
    where: str, table: Mapping[str, Any], *, required: bool
) -> ProvenanceDemand:
    tier = table.get("provenance", "full")
    if tier not in ("full", "summary"):
        raise FormatError(
            f"{where}.provenance is {tier!r:.40}, expected 'full' or 'summary'"
        )
    named = [key for key in _SUMMARY_KEYS if key in table]
    if tier == "full" and named:
        raise FormatError(
            f'{where}.{named[0]} goes with provenance = "summary", which is not there'
        )
    # A key of the device's own has no maximum age in the publisher's policy.
    if named == ["summary-keys"]:
        raise FormatError(f"{where}.summary-keys needs a summary-max-age beside it")
    age = None
    if "summary-max-age" in table:
        age = _age(f"{where}.summary-max-age", table["summary-max-age"])
    keys: tuple[Key, ...] = ()
    if "summary-keys" in table:
        what = f"{where}.summary-keys"
        keys = tuple(_key(what, one) for one in _texts(what, table["summary-keys"]))
    return ProvenanceDemand(
        required=required, tier=tier, summary_keys=keys, summary_age=age
    )


def _age(what: str, value: object) -> timedelta:
    found = parse_span(value, what=what)
    if not found:
        raise FormatError(f"{what} is {value}, expected a time above 0")
    return found


def _texts(what: str, value: Any, *, known: Iterable[str] = ()) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= MAX_NAMES
        or any(not isinstance(one, str) or not one for one in value)
    ):
        raise FormatError(
            f"{what} is {value!r:.40}, expected a list of 1 to {MAX_NAMES} texts"
        )
    others = [one for one in value if known and one not in known]
    if others:
        raise FormatError(
            f"{what} has {others[0]!r:.40}, expected {' or '.join(known)}"
        )
    return tuple(dict.fromkeys(value))


def _supported(what: str, value: object) -> Supported:
    if value is not True:
        raise FormatError(f"{what} is {value!r:.40}, expected true")
    return Supported()


def _key(what: str, pem: str) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise FormatError(
            f"{what} has {pem[:40]!r}, expected a public key as PEM"
        ) from why


_READERS: Final[
    Mapping[
        str,
        Callable[[str, Any], Builder | Source | Sbom | VexMaxAge | Supported],
    ]
] = {
    "builder": lambda what, value: Builder(_texts(what, value)),
    "source": lambda what, value: Source(_texts(what, value)),
    "sbom": lambda what, value: Sbom.of(
        _texts(what, value, known=("cyclonedx", "spdx"))
    ),
    "vex-max-age": lambda what, value: VexMaxAge(_age(what, value)),
    "supported": _supported,
}
KEYS: Final = frozenset({"provenance", *_SUMMARY_KEYS, *_READERS})
"""Keys of a policy's table that are read here."""
