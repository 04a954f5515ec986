"""Every command that the product names is one that it has."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain.cli.main import COMMANDS, cli
from tests.authoring.trust import OPEN, PUMP, Vendor, key
from tests.docs.pages import items, pages
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCES = sorted((ROOT / "margo_supplychain").rglob("*.py"))
WORD = "X"  # stands for what a source fills in
PROGRAM = re.compile(r"margo-supplychain ([^`\n]+)")
QUOTED = re.compile(rf"`((?:{'|'.join(COMMANDS)}|layout|token) [a-z]+(?: [^`\n]*)?)`")
NEXT = re.compile(r"^next: .*?margo-supplychain (.+)$", re.MULTILINE)
PROSE = ("on this machine", "can't", "here")  # after the program's name, not a command


def require_command(text: str) -> None:
    """Fail unless `text` begins with a command, and names only options that it has."""
    words = text.split()
    context = click.Context(cli, info_name="margo-supplychain", **cli.context_settings)
    noun, verb = words[0], re.sub(r"[^a-z]+$", "", words[1])
    assert noun in COMMANDS, text
    group = cli.get_command(context, noun)
    assert isinstance(group, click.Group)
    assert verb in group.commands, text
    known = {name for one in group.commands[verb].params for name in one.opts}
    assert known.issuperset(re.findall(r"(?<![\w-])--[a-z-]+", text)), text


def texts(path: Path) -> Iterator[str]:
    """Yield every text of a source, `WORD` in place of what is filled in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(one.value) if isinstance(one, ast.Constant) else WORD
                for one in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named_in(text: str) -> set[str]:
    found = {one.strip() for one in PROGRAM.findall(text)} | set(QUOTED.findall(text))
    # A part of a formatted text is seen once more, alone and cut off.
    return {
        one
        for one in found
        if len(one.split()) > 1
        and not one.startswith((WORD, "-", "--"))
        and not one.startswith(PROSE)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_name_commands_that_exist(path: Path) -> None:
    for text in texts(path):
        for command in named_in(text):
            require_command(command)


def test_that_test_finds_commands() -> None:
    found = {one for path in SOURCES for text in texts(path) for one in named_in(text)}
    assert len(found) > 30
    with pytest.raises(AssertionError, match="root hope"):
        require_command("root hope")
    with pytest.raises(AssertionError, match="--none"):
        require_command("repo refresh --none")


def test_next_commands_of_the_pages_exist() -> None:
    found = [
        command
        for page in pages()
        for item in items(page)
        if item.kind == "block" and item.language == "console"
        for command in NEXT.findall(item.text)
    ]
    assert found
    for command in found:
        require_command(command)


@pytest.mark.parametrize("profile", ["standard", "small", "simple"])
def test_duties_name_commands_that_exist(tmp_path: Path, profile: str) -> None:
    vendor = Vendor(tmp_path, profile=profile)
    if profile == "standard":
        with vendor.create().edit(vendor.keys, clock=vendor.clock) as edit:
            edit.add_publisher("acme", [key("offline").public_key], threshold=1)
            edit.add_application(PUMP, [key("ci").public_key], policy=OPEN)
    else:
        vendor.create_with_pump()
    vendor.publish("1.0.0")
    vendor.clock.advance(days=200)  # the online roles, too
    within = timedelta(days=3000)
    duties = vendor.repository.status(within=within, clock=vendor.clock)
    for duty in duties:
        assert duty.due
        require_command(str(duty.action))
