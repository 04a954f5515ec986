"""The chain of a release as a picture: its steps, what joins them, where it broke.

Made of the trace alone, like everything that `device_chain` says.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.cli.describe import counted
from margo_supplychain.cli.device_chain import (
    STEP,
    provenance_line,
    release_of,
    trace_of,
    why_not,
    words,
)
from margo_supplychain.cli.pictures import Arrow, Box, Kind, Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.formats.reports import Report

_RELEASE: Final = "\nrelease"  # no step is called so
_SHORT: Final = 12
_WIDE: Final = 64  # columns of what went wrong
_HIGH: Final = 4  # lines of each


def picture_of(report: Report, error: Exception | None = None) -> Picture:
    """Return the picture of an answer; where no chain was judged, it says so."""
    trace = trace_of(report)
    why = why_not(error) or {}
    which = release_of(report)
    version = "" if which is None else f" {which.partition('@')[2]}"
    title = f"{report.subject}: {report.verdict}{version}"
    if report.verdict != "verified":
        reason = why.get("reason")
        title += f" [{report.code}{'' if reason is None else f': {reason}'}]"
    if trace is None:
        facts = report.facts(STEP)
        said = provenance_line(facts) if facts else "not reached"
        lines = (
            title,
            f"provenance: {said}",
            "no chain of steps was judged",
            *_told(why),
        )
        kind: Kind = "release" if report.verdict == "verified" else "failed"
        return Picture(
            title=title,
            description=". ".join(lines[1:]),
            boxes=[Box(_RELEASE, lines, kind)],
            arrows=[],
        )
    findings = trace["findings"]
    boxes = [_step(one, findings) for one in trace["steps"]]
    boxes.append(_release(report, trace, title, why))
    arrows = [_edge(one) for one in trace["edges"]]
    arrows.append(_made(trace["release"]))
    return Picture(
        title=title,
        description=". ".join(one.strip() for one in words(report)),
        boxes=boxes,
        arrows=arrows,
    )


def _step(step: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> Box:
    keys = sorted(
        {
            one["keyid"][:_SHORT]
            for one in step["links"]
            if one["outcome"] == "counted" and one["keyid"] is not None
        }
    )
    who = f"signed by {len(keys)}, {step['threshold']} needed"
    lines = [step["name"], f"{who}: {', '.join(keys)}" if keys else who]
    wrong = [one for one in findings if one.get("step") == step["name"]]
    for one in wrong:
        lines += _wrapped(one["text"])
    if not wrong:
        lines.append(f"{counted(len(step['rules']), 'rule')}: all hold")
    return Box(step["name"], tuple(lines), "failed" if wrong else "step")


def _release(
    report: Report,
    trace: Mapping[str, Any],
    title: str,
    why: Mapping[str, str | None],
) -> Box:
    wrong = [one for one in trace["findings"] if one.get("step") is None]
    which = release_of(report) or ""
    lines = [title, f"{which} {trace['release']['artifact'][: 7 + _SHORT]}".strip()]
    for one in wrong:
        lines += _wrapped(one["text"])
    # The chain may hold, and something behind it say no: a policy, a floor.
    if not trace["findings"]:
        lines += _told(why)
    failed = bool(wrong) or report.verdict != "verified"
    return Box(_RELEASE, tuple(lines), "failed" if failed else "release")


def _told(why: Mapping[str, str | None]) -> list[str]:
    said = [why.get("message")]
    said += [f"{one}: {why[one]}" for one in ("found", "wanted") if why.get(one)]
    return [line for text in said if text is not None for line in _wrapped(text)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDE, max_lines=_HIGH, placeholder=" …")


def _edge(edge: Mapping[str, Any]) -> Arrow:
    label = f"{counted(edge['artifacts'], 'artifact')}, such as {edge['example']}"
    return Arrow(edge["from"], edge["to"], label)


def _made(release: Mapping[str, Any]) -> Arrow:
    products = release["products"]
    wrong = [one["name"] for one in products if one["outcome"] == "failed"]
    if wrong:
        return Arrow(release["step"], _RELEASE, f"not made: {wrong[0]}", "failed")
    label = f"made {counted(len(products), 'product')}"
    return Arrow(release["step"], _RELEASE, label, "release")
