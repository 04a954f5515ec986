"""What commands return and how it is printed: lines for people, one JSON document.

stdout carries the result alone; stderr carries notes and progress, then `error:` and
`hint:`. Everything that came from outside is made visible before it reaches a terminal,
so that no file name or message can move the cursor or hide a line.

Example:
    >>> Result(data={"version": "0.1.0"}, lines=["margo-supplychain 0.1.0"])
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.cli.failures import Failure

_GREEN, _YELLOW, _RED, _BOLD = "32", "33", "31", "1"
_COLOURS: Final = {
    "verified": _GREEN,
    "published": _GREEN,
    "incomplete": _YELLOW,
    "inconclusive": _YELLOW,
    "rejected": _RED,
    "error:": _RED,
    "hint:": _BOLD,
}


# Errors that say where in a chain of steps they were found.
_WITH_PLACE: Final = ("provenance", "attestation")
_PLACE: Final = ("step", "rule", "artifact", "type", "found", "wanted")
_ALSO: Final = 4


class Result(NamedTuple):
    """What a command returns; `main` prints one half of it.

    Args:
        data: the result for programs, JSON-ready or close to it (`as_json`).
        lines: the result for people: the verdict word first, one screen at most.
        exit_status: 0, or 5 when the command did its work and somebody must act.
    """

    data: Mapping[str, Any]
    lines: Sequence[str]
    exit_status: int = 0


def write_result(result: Result, *, form: str) -> None:
    """Print a result to stdout."""
    if form == "json":
        ok = result.exit_status == 0
        document = {"ok": ok, "exit": result.exit_status, "result": result.data}
        _write_json(document)
    else:
        _write(sys.stdout, result.lines)


def write_failure(failure: Failure, *, form: str) -> None:
    """Print a failure: JSON to stdout; or the verdict to stdout, the rest to stderr."""
    report = failure.report
    if form == "json":
        error = {
            "code": failure.code,
            "message": failure.message,
            "hint": failure.hint,
            "facts": failure.facts,
            "exit": failure.exit_status,
        }
        if report is not None and "trace" in failure.facts:
            # It may be long, and the report has it, too: step 4.
            error["facts"] = {**failure.facts, "trace": None}
        found = None if report is None else report.to_dict()
        _write_json({"ok": False, "error": error, "report": found})
        return
    if report is not None:
        _write(sys.stdout, [f"{report.verdict} {report.subject}"])
    # stdout has the verdict; nobody to read the reason does not change the status.
    with suppress(OSError):
        _write(sys.stderr, _failure_lines(failure))


def as_json(value: Any) -> Any:
    """Return `value` made of what JSON has; other values become their text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a NamedTuple
        return {name: as_json(each) for name, each in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((as_json(each) for each in value), key=str)
    if is_dataclass(value) and type(value).__str__ is object.__str__:
        names = (each.name for each in fields(value))
        return {name: as_json(getattr(value, name)) for name in names}
    return str(value)


def visible(text: str) -> str:
    """Return `text` with everything that a terminal would act on written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream leads to a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def _failure_lines(failure: Failure) -> list[str]:
    # When there are several problems, each is an error of its own.
    problems = failure.facts.get("problems") or (failure.message,)
    slug = failure.code
    if slug in _WITH_PLACE and failure.facts.get("reason"):
        # Many things are wrong in these two ways: errors.md lists them by reason.
        slug += f": {failure.facts['reason']}"
    lines = [f"error: {each} [{slug}]" for each in problems]
    details = [tuple(each) for each in failure.facts.get("candidates", ())]
    if failure.code in _WITH_PLACE:
        details += _place_of(failure.facts)
    violations = failure.facts.get("violations", ())
    if failure.report is not None:
        violations = failure.report.violations
    # What the message says is not said twice.
    details += [
        (each.rule, each.text)
        for each in violations
        if each.text not in failure.message
    ]
    width = max((len(name) for name, _ in details), default=0)
    lines += [f"  {name:<{width}}   {text}" for name, text in details]
    if failure.hint:
        lines.append(f"hint: {failure.hint}")
    return lines


def _place_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where provenance broke, what is there and what would satisfy it."""
    rows = [(name, facts[name]) for name in _PLACE if facts.get(name) is not None]
    # The first finding is the message itself.
    others = ((facts.get("trace") or {}).get("findings") or ())[1:]
    rows += [("also", each["text"]) for each in others[:_ALSO]]
    left = len(others) - _ALSO
    return [*rows, *([("also", f"{left} more")] if left > 0 else ())]


def _write_json(document: Mapping[str, Any]) -> None:
    # ASCII alone: it survives every encoding and cannot act on a terminal.
    text = json.dumps(as_json(dict(document)), indent=2, ensure_ascii=True)
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _write(stream: TextIO | None, lines: Sequence[str]) -> None:
    if stream is None:
        return
    terminal = is_terminal(stream)
    width = _width(stream) if terminal else 0
    for line in lines:
        for part in _wrapped(visible(line), width):
            stream.write((_coloured(part) if terminal else part) + "\n")
    stream.flush()


def _width(stream: TextIO) -> int:
    try:
        columns = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        columns = 0
    if columns > 0:
        return columns
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 0


def _wrapped(line: str, width: int) -> list[str]:
    # A command to copy must stay in one piece; so must anything on a tiny terminal.
    if width < 20 or len(line) <= width or line.startswith("next: "):
        return [line]
    import textwrap

    indent = len(line) - len(line.lstrip())
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * (indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _coloured(line: str) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    word, space, rest = line.partition(" ")
    colour = _COLOURS.get(word)
    return line if colour is None else f"\x1b[{colour}m{word}\x1b[0m{space}{rest}"
