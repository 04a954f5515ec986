"""One question of `device verify` and `device fetch`, and what is said when it fails.

A question that was understood has a verdict: also when the store is lost before the
verifier begins, the answer is a report and not only an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, final

from margo_supplychain.cli.device_evidence import explained
from margo_supplychain.cli.files import read_named
from margo_supplychain.errors import (
    InconclusiveError,
    ProvenanceError,
    VerificationError,
)
from margo_supplychain.formats.release_entry import MAX_SUMMARY
from margo_supplychain.verify.clock import SystemClock
from margo_supplychain.verify.limits import Control
from margo_supplychain.verify.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.cli.device_directory import DeviceDirectory
    from margo_supplychain.cli.device_watch import Watch
    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.results import VerifiedContent, VerifiedRelease
    from margo_supplychain.verify.verifier import Verifier


class Checked(NamedTuple):
    """A verified release, who verified it, and what the repository is called."""

    release: VerifiedRelease
    verifier: Verifier
    repository: str


@final
class Request:
    """May a release of `name` inside `pin` run in `slot`?"""

    def __init__(
        self,
        invocation: Invocation,
        device: DeviceDirectory,
        watch: Watch,
        *,
        name: ReleaseName,
        pin: Pin,
        slot: str,
        source: str | None,
        policy: Path | None,
        explain: bool,
        summary: Path | None = None,
    ) -> None:
        self._invocation = invocation
        self._device = device
        self._watch = watch
        self._name = name
        self._slot = slot
        self._source = source
        self._policy = policy
        self._summary = summary
        self._asked: Source | None = None
        self.pin = pin
        self.explain = explain

    def verify(self) -> Checked:
        """Take steps 0 to 5 of the plan."""
        with self._answered():
            _ = self._device.settings
            repository, store = self._device.store_of(self._name.publisher)
            self._asked = self._device.source(repository, self._source)
            self._device.note_keys(self._invocation.note)
            verifier = self._device.verifier(
                repository, store, source=self._source, policy=self._policy
            )
            summary = None
            if self._summary is not None:
                summary = read_named(
                    self._summary, limit=MAX_SUMMARY, what="a verification summary"
                )
            release = verifier.verify(
                self._name, self.pin, slot=self._slot, summary=summary
            )
        return Checked(release, verifier, repository)

    def fetch(
        self, checked: Checked, to: Path, platforms: frozenset[str] | None
    ) -> VerifiedContent:
        """Take step 6."""
        from margo_supplychain.cli.progress import progress

        with self._answered(), progress(self._invocation) as tell:
            return checked.verifier.fetch(
                checked.release,
                to,
                control=Control(progress=tell),
                platforms=platforms,
            )

    @property
    def served(self) -> tuple[str, ...]:
        """URLs of those who had content."""
        return self._watch.served

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Give every verdict a report, and name the source in its hint."""
        trace = Trace(f"{self._name} {self.pin}")
        trace.time = SystemClock().now()
        try:
            with trace.step(0):
                yield
        except (VerificationError, InconclusiveError) as error:
            trace.attach(error)
            if self._asked is not None:
                error.name_source(self._asked.url)
            if isinstance(error, ProvenanceError) and error.trace and not self.explain:
                error.hint = f"{error.hint}; --explain says how each step was judged"
            if self.explain and error.report is not None:
                for line in explained(error.report):
                    self._invocation.note(line)
            raise
