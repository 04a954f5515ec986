"""Pages that are generated say what the code says now."""

from __future__ import annotations

from margo_supplychain.verify.trace import TITLES
from tests.docs import generate_checks, generate_commands


def test_the_page_of_commands_is_what_click_says() -> None:
    found = generate_commands.PAGE.read_text("utf-8")
    assert found == generate_commands.page(), "python -m tests.docs.generate_commands"


def test_the_table_of_checks_is_what_the_comments_say() -> None:
    found = generate_checks.PAGE.read_text("utf-8")
    assert found == generate_checks.whole_page(), "python -m tests.docs.generate_checks"


def test_steps_are_called_as_in_reports() -> None:
    for number, title in generate_checks.TITLES.items():
        # The first word: `resolve the pin` is `resolve` here.
        assert TITLES[number].split()[0] == title.split()[0].rstrip(","), number
