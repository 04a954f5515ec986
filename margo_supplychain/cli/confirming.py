"""Asks somebody on the terminal before something that can't be taken back.

`--yes` answers in scripts. It says that somebody looked, and turns no check off.

Example:
    >>> @yes_option("Sign without asking.")  # doctest: +SKIP
    ... def sign(*, yes: bool) -> Result:
    ...     confirm("sign this?", yes=yes)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.output import visible
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

_TERMINAL: Final = "/dev/tty"
_LIMIT: Final = 100  # characters of an answer


def yes_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--yes`."""
    return click.option("--yes", is_flag=True, help=text)


def confirm(question: str, *, yes: bool) -> None:
    """Return if somebody says yes; what they agree to was shown before.

    Args:
        question: one line, such as `sign this?`.
        yes: the answer was given by `--yes`.

    Raises:
        click.UsageError: there is no terminal to ask, and no `--yes`.
        RefusedError: the answer is no.
    """
    if yes:
        return
    answer = _ask(f"{visible(question)} [y/N] ")
    if answer.strip().lower() not in {"y", "yes"}:
        raise RefusedError(
            "the answer was no",
            hint="nothing was changed; run it again to answer otherwise",
        )


def _ask(prompt: str) -> str:
    try:
        # Not stdin and stdout: those may lead to files, and somebody sits here.
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError as why:
        raise click.UsageError(
            "there is no terminal to ask for confirmation: give --yes once somebody "
            "has looked"
        ) from why
    with os.fdopen(terminal, "r+b", buffering=0) as stream:
        stream.write(prompt.encode("utf-8", "backslashreplace"))
        return stream.readline(_LIMIT).decode("utf-8", "replace")
