"""Whom a device's command asks: who is waited for, who did not answer, who had it.

The library is silent. Whoever sits before a command that waits for a mirror wants to
know for which one, and afterwards where things came from.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, final

from margo_supplychain.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import ContentSources, Source

    Tick = Callable[[int], None]

PATIENCE: Final = 3.0  # seconds without a byte before somebody is told
_MOST: Final = 64  # places and reasons that are kept


@final
class Watch:
    """What one command saw of those that it asked. Any thread may tell it.

    Args:
        invocation: told of who is waited for, and with -v of who did not answer.
    """

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._served: dict[str, None] = {}
        self._said: dict[str, None] = {}

    @property
    def served(self) -> tuple[str, ...]:
        """URLs of those who had content, in the order of their first answer."""
        return tuple(self._served)

    def source(self, source: Source) -> Watched:
        """Return a source of metadata that is watched."""
        return Watched(source, self, serves=False)

    def content(self, content: ContentSources) -> ContentSources:
        """Return sources of content that are watched."""
        return _WatchedContent(content, self)

    def had(self, url: str) -> None:
        """Take note of a place that had content."""
        if len(self._served) < _MOST:
            self._served[url] = None

    def silent(self, why: FetchError) -> None:
        """Take note of a place that did not answer."""
        self._say(self._invocation.detail, str(why))

    def waits(self, url: str) -> None:
        """Say who is waited for, once for each."""
        self._say(self._invocation.note, f"no answer from {url} yet")

    def _say(self, say: Callable[[str], None], text: str) -> None:
        if text not in self._said and len(self._said) < _MOST:
            self._said[text] = None
            say(text)


@final
class _WatchedContent:
    """Sources of content; implements `ContentSources`."""

    def __init__(self, content: ContentSources, watch: Watch) -> None:
        self._content = content
        self._watch = watch
        self._known: dict[int, Watched] = {}

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        """Return the sources to try, best first; the same ones each time."""
        return tuple(
            self._known.setdefault(id(one), Watched(one, self._watch, serves=True))
            for one in self._content.sources(locations)
        )


@final
class Watched:
    """A source, and who is told how it goes; implements `Source`.

    Args:
        source: the one that is asked.
        watch: whom to tell.
        serves: whether it is asked for content.

    `unreached` is why the source could not be reached, or None.
    """

    def __init__(self, source: Source, watch: Watch, *, serves: bool) -> None:
        # Also keeps it alive: its id is its name.
        self._source = source
        self._watch = watch
        self._serves = serves
        self.unreached: FetchError | None = None

    @property
    def url(self) -> str:
        """The source's URL; of several, who is asked or answered last."""
        return self._source.url

    def metadata(self, filename: str, *, limit: int, tick: Tick | None = None) -> bytes:
        """Pass the question on."""
        with self._asked():
            return self._source.metadata(
                filename, limit=limit, tick=self._patient(tick)
            )

    @contextmanager
    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Tick | None = None,
    ) -> Iterator[BinaryIO]:
        """Pass the question on."""
        patient = self._patient(tick)
        with (
            self._asked(),
            self._source.target(path, what, start=start, tick=patient) as stream,
        ):
            yield stream

    @contextmanager
    def blob(
        self, what: Descriptor, *, start: int = 0, tick: Tick | None = None
    ) -> Iterator[BinaryIO]:
        """Pass the question on."""
        patient = self._patient(tick)
        with (
            self._asked(),
            self._source.blob(what, start=start, tick=patient) as stream,
        ):
            if self._serves:
                self._watch.had(self._source.url)
            yield stream

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except FetchError as why:
            if why.unreachable:
                self.unreached = self.unreached or why
            if not why.missing:
                self._watch.silent(why)
            raise
        finally:
            # Who was passed over on the way to an answer.
            for one in getattr(self._source, "problems", ()):
                self._watch.silent(one)

    def _patient(self, tick: Tick | None) -> Tick:
        since = time.monotonic()

        def patient(size: int) -> None:
            nonlocal since
            now = time.monotonic()
            if size:
                since = now
            elif now - since >= PATIENCE:
                self._watch.waits(self._source.url)
            if tick is not None:
                tick(size)

        return patient
