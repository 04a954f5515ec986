"""Pages that are generated say what the code says now."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from margo_supplychain.cli.main import COMMANDS, cli
from margo_supplychain.verify.trace import TITLES
from tests.docs import generate_checks, generate_commands


def test_the_page_of_commands_is_what_click_says() -> None:
    found = generate_commands.PAGE.read_text("utf-8")
    assert found == generate_commands.page(), "python -m tests.docs.generate_commands"


def test_the_table_of_checks_is_what_the_comments_say() -> None:
    found = generate_checks.PAGE.read_text("utf-8")
    assert found == generate_checks.whole_page(), "python -m tests.docs.generate_checks"


@pytest.mark.parametrize("noun", COMMANDS)
def test_help_shows_options_that_exist(noun: str) -> None:
    context = click.Context(cli, info_name="margo-supplychain", **cli.context_settings)
    group = cli.get_command(context, noun)
    assert isinstance(group, click.Group)
    for name, command in group.commands.items():
        examples = re.findall(
            r"^  margo-supplychain (.+)$", command.epilog or "", re.MULTILINE
        )
        assert len(examples) >= 3, name  # two examples and the next command
        for example in examples:
            words = shlex.split(example.partition(" <")[0].partition("  (")[0])
            words = words[2:] if words[0] == "--format" else words
            other = cli.get_command(context, words[0])
            assert isinstance(other, click.Group), example
            shown = other.commands[words[1]]
            inner = click.Context(shown, info_name=words[1], parent=context)
            shown.make_parser(inner).parse_args(words[2:])  # raises NoSuchOption


def test_steps_are_called_as_in_reports() -> None:
    for number, title in generate_checks.TITLES.items():
        # The first word: `resolve the pin` is `resolve` here.
        assert TITLES[number].split()[0] == title.split()[0].rstrip(","), number
