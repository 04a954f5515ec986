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
    trace_of,
    words,
)
from margo_supplychain.cli.pictures import Arrow, Box, Kind, Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.formats.reports import Report

_RELEASE: Final = "\nrelease"  # no step is called so
_SHORT: Final = 12
_RECORD: Final = 3  # step of the plan
_WIDE: Final = 64  # columns of what went wrong
_HIGH: Final = 4  # lines of each


def picture_of(report: Report) -> Picture:
    """Return the picture of an answer; where no chain was judged, it says so."""
    trace = trace_of(report)
    title = f"{report.subject}: {report.verdict}"
    if report.verdict != "verified":
        title += f" [{report.code}]"
    if trace is None:
        facts = report.facts(STEP)
        said = provenance_line(facts) if facts else "not reached"
        lines = (title, f"provenance: {said}", "no chain of steps was judged")
        kind: Kind = "release" if report.verdict == "verified" else "failed"
        return Picture(
            title=title,
            description=". ".join(lines[1:]),
            boxes=[Box(_RELEASE, lines, kind)],
            arrows=[],
        )
    findings = trace["findings"]
    boxes = [_step(one, findings) for one in trace["steps"]]
    boxes.append(_release(report, trace, title))
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
    lines = [step["name"], f"{len(keys)} of {step['threshold']}: {', '.join(keys)}"]
    wrong = [one for one in findings if one.get("step") == step["name"]]
    for one in wrong:
        lines += _wrapped(one["text"])
    if not wrong:
        lines.append(f"{counted(len(step['rules']), 'rule')}: all hold")
    return Box(step["name"], tuple(lines), "failed" if wrong else "step")


def _release(report: Report, trace: Mapping[str, Any], title: str) -> Box:
    wrong = [one for one in trace["findings"] if one.get("step") is None]
    which = str(report.facts(_RECORD).get("release", ""))
    lines = [title, f"{which} {trace['release']['artifact'][: 7 + _SHORT]}".strip()]
    for one in wrong:
        lines += _wrapped(one["text"])
    failed = bool(wrong) or report.verdict != "verified"
    return Box(_RELEASE, tuple(lines), "failed" if failed else "release")


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
