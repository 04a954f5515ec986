"""The rule engine: which artifacts of a step the rules of its layout account for.

As in in-toto, each list of rules is a firewall: the names of a step's materials (or
products) wait in a queue, each rule in turn consumes what it accounts for, DISALLOW
refuses what it still finds, REQUIRE refuses what it does not. Unlike in-toto, what is
left at the end is refused. Pure: no state outlives a call, nothing is executed.

Example:
    >>> from margo_supplychain.provenance.rules import ArtifactRule
    >>> made = {"build": Made({}, {"bin/pump": "00", "core": "11"})}
    >>> found = judge("build", "products", [ArtifactRule("ALLOW", "bin/*")], made)
    >>> found.findings[0].text
    'product "core" of step build is accounted for by no rule'
"""

from __future__ import annotations

import heapq
from itertools import compress, filterfalse, islice
from operator import eq
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.formats.release_products import DIRTY, MANIFEST_PRODUCT
from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.artifacts import (
    by_algorithm,
    has_content,
    same,
    shown_hashes,
)
from margo_supplychain.provenance.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from margo_supplychain.provenance.artifacts import Hashes
    from margo_supplychain.provenance.rules import ArtifactRule, Side

MOST_SHOWN: Final = 10  # artifacts of a rule
MAX_WORK: Final = 1 << 30
"""Characters that the rules of one chain look at: some seconds of work, and 40 rules
that leave 100,000 artifacts as they are."""
# What each artifact costs a rule, in characters: to look it up, to compare its content.
_EACH: Final = 64
_COMPARED: Final = 256
_REASONS_SHOWN: Final = 3
_CLEAN: Final = (
    "a working tree as its commit has it: commit or remove the changes, and record "
    "the step again"
)


class Made(NamedTuple):
    """What the links of a step agree on."""

    materials: Mapping[str, Hashes]
    products: Mapping[str, Hashes]

    def side(self, side: Side) -> Mapping[str, Hashes]:
        """Return its materials or its products."""
        return self.materials if side == "materials" else self.products


class Work:
    """What is left of the work that the rules of one chain may take.

    Layout and links are somebody else's: together they could keep a processor busy for
    hours. Counted, not timed, so that every device comes to the same verdict.

    Args:
        left: in characters of names that are looked at.

    Attributes:
        taken: how much was.
        is_spent: whether a rule was not judged because too little was left.
    """

    def __init__(self, left: int = MAX_WORK) -> None:
        self.left = left
        self.taken = 0
        self.is_spent = False

    def spend(self, cost: int) -> bool:
        """Take so much for a verdict, if it is left; say whether it is."""
        self.is_spent = not self.spends(cost)
        return not self.is_spent

    def spends(self, cost: int) -> bool:
        """Take so much for an explanation, if it is left; say whether it is."""
        if cost > self.left:
            return False
        self.left -= cost
        self.taken += cost
        return True


class Edge(NamedTuple):
    """Artifacts that one step passed to another.

    Args:
        source, target: the step that is named by a MATCH rule, and the rule's own.
        side: which of the source's artifacts the rule looked at.
        artifacts: how many, of those with content.
        example: the first of them, by the name that the target has for it.
    """

    source: str
    target: str
    side: Side
    artifacts: int
    example: str


class Applied(NamedTuple):
    """How one rule went.

    Args:
        rule: the rule; None for what is left behind the last one.
        passed: whether it found nothing wrong.
        total: how many artifacts it consumed, or refused.
        artifacts: the first of them, at most 10.
        found, wanted: where it failed.
    """

    rule: ArtifactRule | None
    passed: bool
    total: int = 0
    artifacts: tuple[str, ...] = ()
    found: str | None = None
    wanted: str | None = None


class Judged(NamedTuple):
    """How a list of rules went: each rule, what failed, what joins the steps."""

    applied: tuple[Applied, ...]
    findings: tuple[Finding, ...]
    edges: tuple[Edge, ...]


def judge(
    step: str,
    side: Side,
    rules: Sequence[ArtifactRule],
    made: Mapping[str, Made],
    work: Work | None = None,
) -> Judged:
    """Apply the rules for a step's materials or products.

    Args:
        step: name of the step; `made` has it.
        side: which list the rules are for.
        rules: in order.
        made: by name, what each step made; steps without links are absent.
        work: of the whole chain; when it is spent, the rest is not judged.
    """
    run = _Run(step, side, rules, made, work or Work())
    for number, rule in enumerate(rules):
        # check 4.111: layout and links take bounded work
        if not run.affords(rule):
            run.give_up(rule)
            return Judged(tuple(run.applied), tuple(run.findings), tuple(run.edges))
        if rule.kind == "DISALLOW":
            run.disallow(number, rule)
        elif rule.kind == "REQUIRE":
            run.require(rule)
        else:
            run.consume(rule)
    # check 4.67: what no rule accounts for is refused
    run.deny_rest()
    return Judged(tuple(run.applied), tuple(run.findings), tuple(run.edges))


class _Run:
    """One list of rules on its way through a queue of names."""

    def __init__(
        self,
        step: str,
        side: Side,
        rules: Sequence[ArtifactRule],
        made: Mapping[str, Made],
        work: Work,
    ) -> None:
        self.step, self.side, self.rules, self.made = step, side, rules, made
        self.work = work
        self.own = made[step]
        self.here = self.own.side(side)
        # In the link's own order, in which its names and digests lie in memory.
        self.queue = dict.fromkeys(self.here)
        # Which rule consumed what a REQUIRE asks for.
        self.taken = {one.pattern: "" for one in rules if one.kind == "REQUIRE"}
        self.applied: list[Applied] = []
        self.findings: list[Finding] = []
        self.edges: list[Edge] = []

    def affords(self, rule: ArtifactRule) -> bool:
        count = 1 if rule.is_name else len(self.queue)
        each = _COMPARED if rule.kind in ("MATCH", "MODIFY") else _EACH
        return self.work.spend(rule.cost(self.queue) + each * count)

    def give_up(self, rule: ArtifactRule) -> None:
        found = f"{len(self.queue)} artifacts left for this rule and those behind it"
        wanted = (
            "fewer rules, with fewer stars, or fewer artifacts in the links: the rules "
            f"of one release may look at {MAX_WORK} characters of names"
        )
        self._failed(rule, (), found, wanted)
        self.findings.append(
            Finding(
                "rule",
                f'rules for {self.side} of step {self.step} from "{rule.text}" on were '
                "not judged: that takes more work than a release is worth",
                step=self.step,
                rule=rule.text,
                found=found,
                wanted=wanted,
                stricter=stricter.WORK,
            )
        )

    def consume(self, rule: ArtifactRule) -> None:
        names = rule.select(self.queue)
        materials, products = self.own
        match rule.kind:
            case "MATCH":
                names = self._matched(rule, names)
                self._join(rule, names)
            case "CREATE":
                names = _in_first(names, products, materials)
            case "DELETE":
                names = _in_first(names, materials, products)
            case "MODIFY":
                names = [n for n in names if self._modified(n)]
        self._take(names, rule)
        self.applied.append(_passed(rule, names))

    def disallow(self, number: int, rule: ArtifactRule) -> None:
        names = rule.select(self.queue)
        # check 4.68: DISALLOW refuses what no rule before it consumed
        if names:
            self._refuse(names, number, rule)
        if not names:
            self.applied.append(_passed(rule))
        self._take(names, rule)

    def require(self, rule: ArtifactRule) -> None:
        name = rule.pattern
        if name in self.queue:
            self.applied.append(Applied(rule, passed=True, artifacts=(name,)))
            return
        # in-toto: a name that an earlier rule consumed is not there any more
        kind, shown = self.side[:-1], quoted(name)
        if name in self.here:
            found = f'consumed before by "{self.taken[name]}"'
            wanted = "the REQUIRE above the rule that consumes it"
        else:
            found = f"no such {kind}"
            wanted = f"a {kind} {shown} in each link of step {self.step}"
            if name == MANIFEST_PRODUCT:
                wanted += ", which `attest run --release DIST` records"
        self._failed(rule, (name,), found, wanted)
        # check 4.69: what is required is there
        self.findings.append(
            Finding(
                "rule",
                f'{kind} {shown} of step {self.step} is required by "{rule.text}": '
                f"{found}",
                step=self.step,
                rule=rule.text,
                artifact=name,
                found=found,
                wanted=wanted,
            )
        )

    def deny_rest(self) -> None:
        if self.queue:
            self._refuse(self.queue, len(self.rules), None)

    def _take(self, names: Collection[str], rule: ArtifactRule) -> None:
        if len(names) == len(self.queue):
            self.queue.clear()
        else:
            for name in names:
                del self.queue[name]
        if self.taken:
            for name in self.taken.keys() & names:
                self.taken[name] = rule.text

    def _matched(self, rule: ArtifactRule, names: Sequence[str]) -> list[str]:
        there = self._there(rule)
        if there is None:
            return []
        here = self.here
        partners = (
            [rule.partner(name) for name in names]
            if rule.source_prefix or rule.prefix
            else names
        )
        others = map(there.get, partners)
        found = [*compress(names, map(eq, map(here.get, names), others))]
        if len(found) == len(names):
            return found
        # Of what is not equal, only several algorithms may still be the same.
        equal = set(found)
        for name, partner in zip(names, partners, strict=True):
            other = there.get(partner)
            if other is not None and name not in equal and same(here[name], other):
                found.append(name)
        return found

    def _there(self, rule: ArtifactRule) -> Mapping[str, Hashes] | None:
        made = self.made.get(rule.step or "")
        return made.side(rule.side) if made and rule.side else None

    def _join(self, rule: ArtifactRule, names: Collection[str]) -> None:
        if rule.step is None or rule.side is None or rule.step == self.step:
            return
        # check 4.88 (instead: full = names): a file without content joins no steps
        full = [name for name in names if has_content(self.here[name])]
        if full:
            edge = Edge(rule.step, self.step, rule.side, len(full), min(full))
            self.edges.append(edge)

    def _modified(self, name: str) -> bool:
        before, after = self.own.materials.get(name), self.own.products.get(name)
        return before is not None and after is not None and _differ(before, after)

    def _refuse(
        self, names: Collection[str], number: int, rule: ArtifactRule | None
    ) -> None:
        first = _first(names)[0]
        what = f"{self.side[:-1]} {quoted(first)}"
        text = f"{what} of step {self.step} is " + (
            "accounted for by no rule"
            if rule is None
            else f'disallowed by "{rule.text}"'
        )
        reasons = [*islice(self._reasons(first, number), _REASONS_SHOWN)]
        found = "; ".join(one for one, _ in reasons)
        if found:
            text += f": {found}"
        if len(names) > 1:
            text += f" (and {len(names) - 1} more)"
        above = "" if rule is None else f' above "{rule.text}"'
        wanted = next(
            (one for _, one in reasons if one),
            f"a rule{above} that accounts for it, or step {self.step} without it",
        )
        # No rule should let it pass: then anything might have been built.
        if first == DIRTY and not reasons:
            wanted = _CLEAN
        self._failed(rule, names, found or what, wanted)
        self.findings.append(
            Finding(
                "unexplained" if rule is None else "rule",
                text,
                step=self.step,
                rule=None if rule is None else rule.text,
                artifact=first,
                found=found or what,
                wanted=wanted,
                stricter=stricter.DEFAULT_DENY
                if rule is None
                else self._stricter(first, number),
            )
        )

    def _stricter(self, name: str, number: int) -> str | None:
        """Return the case by which in-toto has a rule above DISALLOW consume it."""
        before, after = self.own.materials.get(name), self.own.products.get(name)
        if before is None or after is None or before == after or _differ(before, after):
            return None
        modifies = any(
            rule.kind == "MODIFY"
            and self.work.spends(rule.cost([name]) + _EACH)
            and bool(rule.select([name]))
            for rule in self.rules[:number]
        )
        return stricter.MODIFIED if modifies else None

    def _failed(
        self,
        rule: ArtifactRule | None,
        names: Collection[str],
        found: str,
        wanted: str,
    ) -> None:
        self.applied.append(
            Applied(
                rule,
                passed=False,
                total=len(names),
                artifacts=_first(names),
                found=found,
                wanted=wanted,
            )
        )

    def _reasons(self, name: str, number: int) -> Iterator[tuple[str, str]]:
        """Yield why the rules above, where they are about it, did not consume it.

        With what would satisfy each of them, where a rule can tell.
        """
        for rule in self.rules[:number]:
            if rule.kind in ("REQUIRE", "DISALLOW"):
                continue
            if not self.work.spends(rule.cost([name]) + _EACH):
                return
            if not rule.select([name]):
                continue
            why, wanted = (
                self._no_match(rule, name)
                if rule.kind == "MATCH"
                else (f"does not take it: {self._unchanged(rule, name)}", "")
            )
            yield f'"{rule.text}" {why}', wanted

    def _no_match(self, rule: ArtifactRule, name: str) -> tuple[str, str]:
        there = self._there(rule)
        if there is None:
            wanted = f"a good link of step {rule.step}"
            return f"finds no good link of step {rule.step}", wanted
        partner = rule.partner(name)
        what = f"the {rule.side} of step {rule.step}"
        other = there.get(partner)
        if other is None:
            found = f"finds no {quoted(partner)} in {what}"
            renamed = self._renamed(name, there)
            if renamed is not None:
                wanted = (
                    f"{quoted(partner)} in {what}: was the directory renamed, or was "
                    "one of the commands run elsewhere"
                )
                return f"{found}, where the same content is {quoted(renamed)}", wanted
            return found, f"{quoted(partner)} in {what}, or step {self.step} without it"
        here = shown_hashes(self.here[name])
        wanted = (
            "the same content in both: links of one run of the pipeline, in which "
            "nobody changed it in between"
        )
        return f"finds {shown_hashes(other)} in {what}, here it is {here}", wanted

    def _renamed(self, name: str, there: Mapping[str, Hashes]) -> str | None:
        """Return by which name another step has what is `name` here, if it does."""
        here = self.here[name]
        if not has_content(here) or not self.work.spends(_COMPARED * len(there)):
            return None
        return min(
            (one for one, what in there.items() if same(here, what)), default=None
        )

    def _unchanged(self, rule: ArtifactRule, name: str) -> str:
        if rule.kind == "CREATE":
            return "it was a material already"
        if rule.kind == "DELETE":
            return "it is still a product"
        if name not in self.own.materials:
            return "it was no material"
        if name not in self.own.products:
            return "it is no product"
        return "it is the same as before"


def _passed(rule: ArtifactRule, names: Collection[str] = ()) -> Applied:
    return Applied(rule, passed=True, total=len(names), artifacts=_first(names))


def _first(names: Collection[str]) -> tuple[str, ...]:
    return tuple(heapq.nsmallest(MOST_SHOWN, names))


def _in_first(
    names: Iterable[str], first: Mapping[str, Hashes], second: Mapping[str, Hashes]
) -> list[str]:
    """Return the names that one list has and the other doesn't."""
    return [*filterfalse(second.__contains__, filter(first.__contains__, names))]


def _differ(one: Hashes, other: Hashes) -> bool:
    """Say whether two contents are surely not the same: some common digest differs."""
    if isinstance(one, str) and isinstance(other, str):
        return one != other
    ours, theirs = by_algorithm(one), by_algorithm(other)
    return any(theirs.get(name, value) != value for name, value in ours.items())
