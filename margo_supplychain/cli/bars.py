"""Bars on a terminal for the parts of long work, drawn by rich.

The one module that imports rich; `progress` loads it when somebody waits at a terminal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from margo_supplychain.cli.progress import far

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType
    from rich.progress import TaskID

_REFRESHES: Final = 10  # per second, at most
_WIDTH: Final = 24


@final
class Bars(Progress):
    """A line about all parts, and a bar for each that is on its way."""

    def __init__(self) -> None:
        self._head = ""
        self._shown: dict[str, TaskID] = {}
        self._next = 0.0
        # Names come from outside: they are text, never markup.
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_WIDTH),
            TextColumn("{task.fields[far]}", markup=False),
            console=Console(stderr=True, highlight=False, markup=False, emoji=False),
            auto_refresh=False,  # no thread of its own: it draws when it is told
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.start()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the line and the bars, from top to bottom."""
        yield Text(self._head)
        yield self.make_tasks_table(self.tasks)

    def show(self, head: str, what: str, done: int, total: int) -> None:
        """Show that a part is `done` of `total` bytes far; one that is whole goes."""
        self._head = head
        task = self._shown.get(what)
        if 0 < total <= done:
            if task is not None:
                self.remove_task(self._shown.pop(what))
        else:
            if task is None:
                task = self._shown[what] = self.add_task(what, total=None, far="")
            self.update(task, completed=done, total=total or None, far=far(done, total))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1 / _REFRESHES
            self.refresh()

    def end(self) -> None:
        """Take everything away."""
        self.stop()
