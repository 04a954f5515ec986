"""Generate docs/reference/commands.md from click: every command, option and example.

    python -m tests.docs.generate_commands

writes the page; `test_generated.py` compares it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.main import COMMANDS, cli
from tests.docs.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = DOCS / "reference" / "commands.md"
_PROGRAM: Final = "margo-supplychain"
_HEAD: Final = """\
# Commands

Generated from the command line itself by `python -m tests.docs.generate_commands`;
command by command it is what `--help` prints.

Options of `margo-supplychain` itself stand before the command:

"""
_PLACE: Final = """
`--repo`, `--state`, `--publisher` and keys that are not given come from the
environment (`MARGO_SUPPLYCHAIN_REPO` for `--repo`, and so on), else from
`margo-supplychain.toml` in this directory or above it. `--state`, `--source` and
`--policy` of the device commands come from the environment alone, never from that file:
what lies in some directory must not choose a device's memory, source or policy. `-v`
says which applied. A secret comes from neither.
"""


def page() -> str:
    """Return the whole page."""
    context = click.Context(cli, info_name=_PROGRAM, **cli.context_settings)
    parts = [_HEAD, *_options(cli, context), _PLACE]
    for noun, (_, line) in COMMANDS.items():
        group = cli.get_command(context, noun)
        if not isinstance(group, click.Group):
            raise TypeError(f"{noun} is not a group of commands")
        inner = click.Context(group, info_name=noun, parent=context)
        parts.append(f"\n## {noun}\n\n{_sentence(line)}\n")
        for name in group.list_commands(inner):
            command = group.get_command(inner, name)
            if command is not None:
                last = click.Context(command, info_name=name, parent=inner)
                parts.extend(_command(command, last))
    return "".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    words = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS] ", "")
    words = "" if words == "[OPTIONS]" else f" {words}"
    noun = context.parent.info_name if context.parent is not None else ""
    yield f"\n### {noun} {context.info_name}\n\n"
    yield f"`{_PROGRAM} {noun} {context.info_name}{words}`\n\n"
    yield f"{_text(command.help)}\n"
    rows = list(_options(command, context))
    if rows:
        yield "\n"
        yield from rows
    yield "\n```text\n"
    yield f"{(command.epilog or '').replace(chr(8) + chr(10), '').strip()}\n```\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = [
        one.get_help_record(context)
        for one in command.get_params(context)
        if isinstance(one, click.Option)
    ]
    found = [row for row in rows if row is not None and "--help" not in row[0]]
    if not found:
        return
    yield "| option | |\n|---|---|\n"
    for name, text in found:
        yield f"| `{name.replace('|', chr(92) + '|')}` | {_cell(text)} |\n"


def _text(text: str | None) -> str:
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
