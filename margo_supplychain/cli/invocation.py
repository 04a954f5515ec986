"""One run of the command line: its global options, settings, notes and progress.

click hands it to every command (`pass_invocation`); commands return a `Result` and say
everything else through it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, final

import click

from margo_supplychain.cli.output import visible
from margo_supplychain.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Invocation:
    """The global options and what goes to stderr while a command runs.

    Args:
        form: `text` or `json`.
        verbosity: 1 with -v, -1 with -q, else 0.
    """

    def __init__(self, *, form: str = "text", verbosity: int = 0) -> None:
        self.form = form
        self.verbosity = verbosity
        # What takes away the progress that is shown; `progress` sets it.
        self.showing: Callable[[], None] | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings of this place: the environment's, then the file's."""
        return Settings(Path.cwd(), os.environ)

    def note(self, text: str) -> None:
        """Say something on stderr, unless -q was given."""
        if self.verbosity >= 0:
            self._say(text)

    def detail(self, text: str) -> None:
        """Say something on stderr when -v was given."""
        if self.verbosity > 0:
            self._say(text)

    def line(self, text: str) -> None:
        """Say how far long work is, where there is no terminal."""
        _write(f"{visible(text)}\n")

    def end_progress(self) -> None:
        """Take the progress away before anything else is printed."""
        if self.showing is not None:
            self.showing()

    def _say(self, text: str) -> None:
        self.end_progress()
        _write(f"note: {visible(text)}\n")


def _write(text: str) -> None:
    # A note that nobody can read must not turn what was done into a failure.
    if sys.stderr is not None and not sys.stderr.closed:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


pass_invocation = click.make_pass_decorator(Invocation)
