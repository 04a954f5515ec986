"""A layout for people, for programs and as a picture; nothing is judged here.

Example:
    >>> from margo_supplychain.provenance.rules import ArtifactRule
    >>> rule_words(ArtifactRule.parse("MATCH * WITH PRODUCTS FROM build".split()))
    'anything exactly as it came out of build'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.cli import describe
from margo_supplychain.cli.pictures import Arrow, Box, Picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.provenance.layouts import Layout, LayoutStep
    from margo_supplychain.provenance.rules import ArtifactRule

_SHORT: Final = 12
_MANY: Final = 8  # keys in one line
_ALL: Final = "*"
# Of what is written for people alone: it must not push the rules off a screen.
_README: Final = 4_000  # characters
_LINES: Final = 20
_LONG: Final = 200


def heading(file: LayoutFile) -> str:
    """Return one line: how much it says, and until when."""
    layout = file.layout
    distance = describe.distance(layout.expires, at=describe.now())
    return (
        f"layout: {describe.counted(len(layout.steps), 'step')}, "
        f"{describe.counted(len(layout.keys), 'functionary', 'functionaries')}, "
        f"until {describe.date(layout.expires)}, {distance}"
    )


def words(file: LayoutFile) -> list[str]:
    """Return a layout in plain words: steps, who does them, what goes in and out."""
    lines = [heading(file), *describe.table([("payload", f"sha256 {file.digest.hex}")])]
    if file.layout.readme:
        said = file.layout.readme[:_README].splitlines()
        lines += [f"  | {line[:_LONG]}".rstrip() for line in said[:_LINES]]
        if len(said) > _LINES or len(file.layout.readme) > _README:
            lines.append("  | …")
    for step in file.layout.steps:
        lines.append(f"step {step.name}{_makes(file.layout, step)}")
        lines.append(f"  by   {signed_by(step)}")
        if step.command:
            # Said, never enforced.
            lines.append(f"  runs {' '.join(step.command)[:_LONG]}")
        rows = [*_listed("in ", step.materials), *_listed("out", step.products)]
        lines += describe.table(rows)
    return lines


def signed_by(step: LayoutStep) -> str:
    """Return who does a step: `2 of 3 alike: 77d1e0aa93b4, …`."""
    names = ", ".join(keyid[:_SHORT] for keyid in step.keyids[:_MANY])
    if len(step.keyids) > _MANY:
        names += f" and {len(step.keyids) - _MANY} more"
    if len(step.keyids) == 1:
        return names
    alike = " alike" if step.threshold > 1 else ""
    return f"{step.threshold} of {len(step.keyids)}{alike}: {names}"


def rule_words(rule: ArtifactRule, *, first: bool = True) -> str:
    """Return a rule in plain words.

    Args:
        rule: any rule of in-toto's.
        first: no rule stands before it, so that none has taken anything.
    """
    # Quoted: a name may read like one of these sentences.
    what = f'"{rule.pattern}"' if " " in rule.pattern else rule.pattern
    if what == _ALL:
        what = "anything" if first or rule.kind != "ALLOW" else "anything else"
    if rule.source_prefix:
        what += f" below {rule.source_prefix}/"
    if rule.kind == "DISALLOW":
        return "nothing else" if rule.pattern == _ALL else f"never {what}"
    if rule.kind == "MATCH":
        came = "came out of" if rule.side == "products" else "went into"
        where = f", below {rule.prefix}/ there" if rule.prefix else ""
        return f"{what} exactly as it {came} {rule.step}{where}"
    return {
        "REQUIRE": f"{what}: it must be there",
        "ALLOW": what,
        "CREATE": f"{what} that is new",
        "DELETE": f"{what} that is gone afterwards",
        "MODIFY": f"{what} that was changed",
    }[rule.kind]


def layout_data(file: LayoutFile) -> dict[str, Any]:
    """Return a layout for JSON."""
    layout = file.layout
    signatures = () if file.envelope is None else file.envelope.signatures
    return {
        "payload": str(file.digest),
        "expires": layout.expires,
        "readme": layout.readme,
        "releaseStep": layout.release_step,
        "steps": [
            {
                "name": step.name,
                "keyIds": list(step.keyids),
                "threshold": step.threshold,
                "materials": [rule.text for rule in step.materials],
                "products": [rule.text for rule in step.products],
                "command": list(step.command),
            }
            for step in layout.steps
        ],
        "functionaries": [
            {"keyId": keyid, "keyType": key.keytype, "scheme": key.scheme}
            for keyid, key in layout.keys.items()
        ],
        "signatures": [one.keyid for one in signatures],
    }


def picture(layout: Layout, *, title: str) -> Picture:
    """Return a layout as a picture: steps, what goes in and out, who signs."""
    arrows: list[Arrow] = []
    boxes = [
        Box(f"key {keyid}", (keyid[:_SHORT], "functionary"), "signer")
        for keyid in layout.keys
    ]
    for step in layout.steps:
        boxes += _boxes(layout, step)
        arrows += _arrows(step)
    return Picture(title=title, description=_aloud(layout), boxes=boxes, arrows=arrows)


def _boxes(layout: Layout, step: LayoutStep) -> Iterator[Box]:
    given, made = _own(step.materials), _own(step.products)
    if given:
        yield Box(f"in {step.name}", tuple(map(rule_words, given)), "artifact")
    lines = (step.name, f"{step.threshold} of {len(step.keyids)} must sign")
    if step.name == layout.release_step:
        yield Box(f"step {step.name}", (*lines, "makes the release"), "release")
    else:
        yield Box(f"step {step.name}", lines)
    if made:
        yield Box(f"out {step.name}", tuple(map(rule_words, made)), "artifact")


def _arrows(step: LayoutStep) -> Iterator[Arrow]:
    at = f"step {step.name}"
    for keyid in step.keyids:
        yield Arrow(f"key {keyid}", at, kind="signer")
    if _own(step.materials):
        yield Arrow(f"in {step.name}", at)
    if _own(step.products):
        yield Arrow(at, f"out {step.name}")
    joined: dict[str, list[str]] = {}
    for rule in (*step.materials, *step.products):
        if rule.kind == "MATCH" and rule.step is not None:
            joined.setdefault(rule.step, []).append(
                f"{rule.pattern} of its {rule.side}"
            )
    for other, labels in joined.items():
        yield Arrow(f"step {other}", at, ", ".join(dict.fromkeys(labels)))


def _own(rules: Sequence[ArtifactRule]) -> list[ArtifactRule]:
    """Return the rules that let something in which comes from no other step."""
    return [one for one in rules if one.kind not in ("MATCH", "DISALLOW")]


def _aloud(layout: Layout) -> str:
    """Return the picture in words, for whoever does not see it."""
    parts = []
    for step in layout.steps:
        others = dict.fromkeys(
            one.step
            for one in (*step.materials, *step.products)
            if one.step is not None
        )
        after = f", takes from {', '.join(others)}" if others else ""
        parts.append(
            f"Step {step.name}{_makes(layout, step)}: {step.threshold} of "
            f"{len(step.keyids)} must sign{after}."
        )
    return " ".join(parts)


def _makes(layout: Layout, step: LayoutStep) -> str:
    return ", which makes the release" if step.name == layout.release_step else ""


def _listed(label: str, rules: Sequence[ArtifactRule]) -> Iterator[tuple[str, ...]]:
    if not rules:
        yield label, "", "nothing"
    for number, rule in enumerate(rules):
        said = rule_words(rule, first=not number)
        # As it is, and in escapes: letters of two alphabets may look alike.
        exact = rule.text.encode("ascii", "backslashreplace").decode("ascii")
        yield "" if number else label, exact, said
