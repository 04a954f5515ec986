"""A trust repository in a directory, as its author holds it.

The directory is what any web server can serve: `metadata/`, `targets/` and an OCI image
layout beside. `authoring/` in it is a convenience of its author and needs no server.
Nothing here trusts the directory: each edit starts from metadata that was verified as a
device would, and ends with metadata that a device has accepted.

Example:
    >>> repository = Repository.create(Path("trust"), plan=plan, keys=[offline, ci])
    >>> with repository.edit([offline, ci]) as edit:
    ...     edit.add_application(name, [ci.public_key], policy=policy)
    True
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.authoring.edit import Edit
from margo_supplychain.authoring.ending import finish
from margo_supplychain.authoring.settings import (
    Settings,
    read_settings,
    verified_settings,
)
from margo_supplychain.authoring.signatures import Signers
from margo_supplychain.authoring.state import LIMITS, last_issued, load
from margo_supplychain.authoring.work import Work
from margo_supplychain.errors import FetchError, FormatError, VerificationError
from margo_supplychain.storage.durable import read_file
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.verify.clock import StoppedClock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.plan import Profile, RootPlan
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore

LOCK_TIMEOUT: Final = 60.0  # seconds; another publisher may be copying content
FIRST_ROOT: Final = "1.root.json"


@final
class Repository:
    """A trust repository; made by `create` or `open`."""

    def __init__(self, directory: Path, settings: Settings, root: bytes) -> None:
        self.directory = directory
        self._settings = settings
        self._root = root
        self._verified: Settings | None = None

    @property
    def profile(self) -> Profile:
        """`standard`, `small` or `simple`, as the verified delegations have it."""
        return self._standing().profile

    @property
    def publisher(self) -> str | None:
        """The one publisher of the profiles small and simple."""
        return self._standing().publisher

    @property
    def root(self) -> bytes:
        """Exact bytes of `1.root.json`: what devices are given out of band."""
        return self._root

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        plan: RootPlan,
        keys: Sequence[Signer],
        clock: Clock | None = None,
    ) -> Self:
        """Make a repository in a new or empty directory.

        A directory in which this was begun and killed counts as empty.

        Args:
            directory: where; its parents are made.
            plan: keys, thresholds and periods.
            keys: private keys, enough for each role's threshold.
            clock: the machine's by default.

        Raises:
            IncompleteError: a key that must sign is not in `keys`.
            RefusedError: the directory is not empty.
            StorageError: it can't be written.
        """
        from margo_supplychain.authoring.creation import create

        create(directory, plan=plan, signers=Signers(keys), now=_now(clock))
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a repository; signs, verifies and changes nothing.

        Raises:
            FormatError: there is none.
            StorageError: it can't be read.
        """
        path = directory / "metadata" / FIRST_ROOT
        try:
            root = read_file(path, limit=LIMITS.root)
        except FileNotFoundError as why:
            raise FormatError(
                f"{directory} holds no trust repository: there is no {path}",
                hint="make one with `margo-supplychain repo init`, or name another "
                "directory",
            ) from why
        settings = read_settings(directory) or Settings(profile="standard")
        return cls(directory, settings, root)

    @contextmanager
    def edit(
        self,
        keys: Sequence[Signer],
        *,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
    ) -> Iterator[Edit]:
        """Change the repository: all or nothing, when the `with` block ends well.

        The directory is locked from the beginning, so that a second publisher waits
        and then starts from what the first one wrote.

        Args:
            keys: private keys of every role that changes, and of snapshot and
                timestamp.
            clock: the machine's by default.
            time_checked: sign although the clock is far from the last signed time;
                when that lies ahead of the clock, as if it were that time: devices
                have it as a floor.
            state: the author's memory of this repository; without it, what the
                directory holds is believed from `1.root.json` on.

        Raises:
            VerificationError: the directory is not what the memory or root says, or
                a device would refuse the result. Nothing was written.
            IncompleteError: a role lacks signatures; names the keys.
            ClockError: the clock is far from the last signed time.
            StorageError: locked for a minute by others, or the disk refuses.
        """
        with DirectoryLock(self.directory, timeout=LOCK_TIMEOUT):
            now = _now(clock)
            source = DirectorySource(self.directory)
            begun = self._load(now, state)
            work = Work(
                state=begun,
                source=source,
                settings=verified_settings(self._settings, begun),
                signers=Signers(keys),
                now=now,
                signed_at=max(now, last_issued(begun)) if time_checked else now,
            )
            edit = Edit(work)
            yield edit
            edit.written = finish(
                work, self.directory, time_checked=time_checked, store=state
            )

    def check(
        self, *, clock: Clock | None = None, state: TrustStore | None = None
    ) -> Report:
        """Look at everything as a fresh device, and as one with the previous state.

        Reads every role, policy, record and blob; finds every problem, not the first.

        Args:
            clock: the machine's by default.
            state: the author's memory of this repository: a third pair of eyes.
        """
        from margo_supplychain.authoring.checks import check_all

        return check_all(self.directory, self._root, store=state, now=_now(clock))

    def status(
        self,
        *,
        within: timedelta,
        clock: Clock | None = None,
        state: TrustStore | None = None,
    ) -> tuple[Duty, ...]:
        """Return every role with who must act by when; needs no key.

        Args:
            within: what expires in this time is due.
            clock: the machine's by default.
            state: the author's memory of this repository, which sees an old copy.

        Raises:
            VerificationError: the top-level metadata is not what the memory or the
                root says.
        """
        from margo_supplychain.authoring.duties import duties

        now = _now(clock)
        begun = self._load(now, state)
        settings = verified_settings(self._settings, begun)
        return duties(begun, settings=settings, now=now, within=within)

    def _standing(self) -> Settings:
        if self._verified is None:
            try:
                state = self._load(_now(None), None)
                self._verified = verified_settings(self._settings, state)
            except (VerificationError, FetchError):
                # Whoever does anything with it will hear about that; to name it, what
                # is written down is enough.
                return self._settings
        return self._verified

    def _load(self, now: datetime, store: TrustStore | None) -> State:
        return load(
            DirectorySource(self.directory),
            first_root=self._root,
            store=store,
            clock=StoppedClock(now),
        )


def _now(clock: Clock | None) -> datetime:
    found = (clock or SystemClock()).now()
    return found.astimezone(UTC).replace(microsecond=0)
