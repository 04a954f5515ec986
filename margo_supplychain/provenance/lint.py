"""What a layout's author may not have meant: layouts that prove little or nothing.

`parse_layout` refuses what no device takes, such as no steps, or a threshold above the
keys. Here is what a device would take and that proves nothing (an error), or less than
it seems (a warning). Only the layout is looked at, so what a rule will meet is guessed
from its text alone.

Example:
    >>> for one in lint(layout, support_until=None):  # doctest: +SKIP
    ...     print(one.severity, one.text)
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from margo_supplychain.formats.release_products import (
    MANIFEST_PRODUCT,
    RECORD_PRODUCT,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from margo_supplychain.provenance.layouts import Layout, LayoutStep
    from margo_supplychain.provenance.rules import ArtifactRule, Side

# Of names that this package gives: commits, and what a release is (release_products).
_FIXED: Final = ("git", "release")
# What `str.isprintable` takes for print and is seen by nobody: fillers of Hangul,
# braille without a dot, Khmer's inherent vowels, joiners and selectors of variants.
_BLANK: Final = (
    ("\u034f", "\u034f"),
    ("\u115f", "\u1160"),
    ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"),
    ("\u2800", "\u2800"),
    ("\u3164", "\u3164"),
    ("\ufe00", "\ufe0f"),
    ("\uffa0", "\uffa0"),
    ("\U000e0100", "\U000e01ef"),
)
_CONSUMING: Final = ("ALLOW", "CREATE", "DELETE", "MODIFY", "MATCH")
_SIDES: Final[tuple[Side, ...]] = ("materials", "products")


class Lint(NamedTuple):
    """One remark about a layout.

    Args:
        severity: `error` where the layout proves nothing, or no release can meet it.
        reason: which way, one word for programs.
        text: one lower-case line for people.
        step, rule: where it shows.
    """

    severity: Literal["error", "warning"]
    reason: str
    text: str
    step: str | None = None
    rule: str | None = None


def lint(layout: Layout, *, support_until: datetime | None) -> tuple[Lint, ...]:
    """Return what may be wrong with a layout, errors first.

    Args:
        layout: well-formed; its `expires` may be what a publisher policy says instead.
        support_until: until when the releases that it serves are supported, if known.
    """
    found = [*_life(layout, support_until), *_keys(layout), *_graph(layout)]
    for step in layout.steps:
        for side in _SIDES:
            rules = step.materials if side == "materials" else step.products
            found += _list(step, side, rules)
    found += _release(layout)
    return tuple(sorted(found, key=lambda one: one.severity != "error"))


def _life(layout: Layout, support_until: datetime | None) -> Iterator[Lint]:
    if support_until is not None and layout.expires < support_until:
        yield Lint(
            "error",
            "expires-early",
            f"the layout expires at {format_time(layout.expires)}, before the support "
            f"of its releases ends at {format_time(support_until)}: devices would "
            "refuse them from then on",
        )


def _keys(layout: Layout) -> Iterator[Lint]:
    seen: dict[str, str] = {}
    for keyid, key in layout.keys.items():
        other = seen.setdefault(material(key), keyid)
        if other != keyid:
            yield Lint(
                "error",
                "key-twice",
                f"one key is listed twice, as {other[:12]} and {keyid[:12]}",
            )
    for keyid in sorted(set(layout.keys) - {k for s in layout.steps for k in s.keyids}):
        yield Lint(
            "warning", "key-unused", f"key {keyid[:12]} is a functionary of no step"
        )
    alone = {step.keyids for step in layout.steps}
    if len(layout.steps) > 1 and len(alone) == 1 and len(next(iter(alone))) == 1:
        yield Lint(
            "warning",
            "one-functionary",
            "one functionary does every step: whoever has that key makes the whole "
            "chain",
        )


def _graph(layout: Layout) -> Iterator[Lint]:
    beside: dict[str, set[str]] = {step.name: {step.name} for step in layout.steps}
    used: set[tuple[str, Side]] = set()
    for step in layout.steps:
        for other, side in _others(step):
            beside[step.name].add(other)
            beside.setdefault(other, set()).add(step.name)
            used.add((other, side))
    joined, waiting = set[str](), [layout.release_step]
    while waiting:
        name = waiting.pop()
        if name not in joined:
            joined.add(name)
            waiting += beside.get(name, ())
    for step in layout.steps:
        if step.name not in joined:
            yield Lint(
                "error",
                "unconnected",
                f"no MATCH joins step {step.name} with the release step "
                f"{layout.release_step}: every release would be refused",
                step.name,
            )
        elif (
            step.name == layout.release_step
            or (step.name, "products") in used
            or not any(rule.kind in _CONSUMING for rule in step.products)
        ):
            continue
        elif all(side == "materials" for _, side in _others(step)):
            yield Lint(
                "error",
                "unconnected",
                f"no MATCH takes what step {step.name} makes, and it takes nothing "
                "that others make: a release for which it makes something would be "
                "refused",
                step.name,
            )
        else:
            yield Lint(
                "warning",
                "products-unused",
                f"no MATCH of another step uses the products of step {step.name}: "
                "what it made may be anything",
                step.name,
            )


def _others(step: LayoutStep) -> Iterator[tuple[str, Side]]:
    """Yield which lists of which other steps a step's rules compare with."""
    for rule in (*step.materials, *step.products):
        if rule.step is not None and rule.side is not None and rule.step != step.name:
            yield rule.step, rule.side


def _list(
    step: LayoutStep, side: Side, rules: Sequence[ArtifactRule]
) -> Iterator[Lint]:
    if not rules:
        yield Lint(
            "warning",
            "no-rules",
            f"step {step.name} has no rules for its {side}: links with any are refused",
            step.name,
        )
    for number, rule in enumerate(rules):
        before, after = rules[:number], rules[number + 1 :]
        if rule.kind == "MATCH":
            yield from _match(step, rule, before, after)
        elif rule.kind == "REQUIRE":
            yield from _require(step, rule, before)
        closed = next((one for one in before if _closes(one)), None)
        if closed is not None and rule.kind in _CONSUMING:
            yield Lint(
                "warning",
                "unreachable",
                f'step {step.name}: nothing is left for "{rule.text}" after '
                f'"{closed.text}"',
                step.name,
                rule.text,
            )
        yield from _letters(step, rule)
        if "{" in rule.pattern:
            yield Lint(
                "warning",
                "placeholder",
                f'step {step.name}: "{rule.text}" has a brace, which stands for '
                "itself: devices replace no parameters",
                step.name,
                rule.text,
            )


def _letters(step: LayoutStep, rule: ArtifactRule) -> Iterator[Lint]:
    """Yield rules that read otherwise than they are: nobody would see that."""
    for text in (rule.pattern, rule.source_prefix, rule.prefix):
        if text.isascii():
            continue
        shown = ascii(rule.text)[1:-1]
        blank = next((one for one in text if _is_blank(one)), None)
        if blank is not None:
            yield Lint(
                "error",
                "invisible",
                f'step {step.name}: "{shown}" has the character U+{ord(blank):04X}, '
                "which nobody sees",
                step.name,
                rule.text,
            )
        fixed = _posed(text)
        if fixed is not None:
            yield Lint(
                "error",
                "look-alike",
                f'step {step.name}: "{shown}" reads like a name below {fixed}/, where '
                "all names are ASCII: it is about something else",
                step.name,
                rule.text,
            )


def _is_blank(one: str) -> bool:
    return any(first <= one <= last for first, last in _BLANK)


def _posed(text: str) -> str | None:
    """Return the directory of fixed names that a text seems to name.

    Any letter that is not ASCII may pass for one that is: no table knows them all.
    """
    head = text.partition("/")[0]
    letters = [
        one
        for one in unicodedata.normalize("NFKC", head)
        if not unicodedata.combining(one)
    ]
    for fixed in _FIXED:
        if len(letters) == len(fixed) and all(
            one == other or not one.isascii()
            for one, other in zip(letters, fixed, strict=True)
        ):
            return fixed
    return None


def _match(
    step: LayoutStep,
    rule: ArtifactRule,
    before: Sequence[ArtifactRule],
    after: Sequence[ArtifactRule],
) -> Iterator[Lint]:
    if rule.step == step.name:
        yield Lint(
            "warning",
            "match-itself",
            f'step {step.name}: "{rule.text}" compares the step with itself',
            step.name,
            rule.text,
        )
    ahead = next(
        (one for one in before if one.kind == "ALLOW" and _covers(one, rule)), None
    )
    if ahead is not None:
        yield Lint(
            "error",
            "match-void",
            f'step {step.name}: "{ahead.text}" leaves nothing for "{rule.text}"',
            step.name,
            rule.text,
        )
        return
    end = next(
        (
            one
            for one in after
            if one.kind in ("ALLOW", "DISALLOW") and _covers(one, rule)
        ),
        None,
    )
    if end is None:
        yield Lint(
            "error",
            "match-open",
            f'step {step.name}: no DISALLOW follows "{rule.text}", so in-toto lets '
            "pass what does not match; add DISALLOW *",
            step.name,
            rule.text,
        )
    elif end.kind == "ALLOW":
        yield Lint(
            "error",
            "match-void",
            f'step {step.name}: "{end.text}" lets pass what "{rule.text}" does not '
            "match",
            step.name,
            rule.text,
        )


def _require(
    step: LayoutStep, rule: ArtifactRule, before: Sequence[ArtifactRule]
) -> Iterator[Lint]:
    for one in before:
        if one.kind == "REQUIRE" or not one.select([rule.pattern]):
            continue
        sure = one.kind in ("ALLOW", "DISALLOW")
        yield Lint(
            "error" if sure else "warning",
            "require-consumed",
            f'step {step.name}: "{one.text}" {"takes" if sure else "may take"} what '
            f'"{rule.text}" asks for: put the REQUIRE first',
            step.name,
            rule.text,
        )
        return


def _release(layout: Layout) -> Iterator[Lint]:
    # Devices demand both of the release step: a layout that refuses one proves nothing.
    for step in layout.steps:
        if step.name != layout.release_step:
            continue
        for name in (MANIFEST_PRODUCT, RECORD_PRODUCT):
            if not _accounted(step, name):
                yield Lint(
                    "error",
                    "release-unexplained",
                    f"step {step.name} makes {name}, and no rule accounts for it: add "
                    "CREATE release/*",
                    step.name,
                )
                break


def _accounted(step: LayoutStep, name: str) -> bool:
    """Say whether a rule consumes a product before one refuses it."""
    for one in step.products:
        if one.kind == "DISALLOW" and one.select([name]):
            return False
        if one.kind in _CONSUMING and one.select([name]):
            return True
    return False


def _closes(rule: ArtifactRule) -> bool:
    return rule.kind in ("ALLOW", "DISALLOW") and rule.pattern == "*"


def _covers(one: ArtifactRule, match: ArtifactRule) -> bool:
    """Say whether one rule is surely about all that a MATCH is about."""
    full = match.pattern
    if match.source_prefix:
        full = f"{match.source_prefix}/{full}"
    if one.pattern in ("*", full):
        return True
    # A directory's all: nothing but text before the one star.
    start, star, rest = one.pattern.partition("*")
    plain = bool(star) and not rest and not set("?[") & set(start)
    return plain and full.partition("*")[0].startswith(start)
