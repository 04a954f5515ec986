"""A trust repository in a directory, as its author holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.plan import Profile, RootPlan
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore


@final
class Repository:
    """A trust repository; made by `create` or `open`."""

    directory: Path
    profile: Profile
    publisher: str | None
    """The one publisher of the profiles small and simple."""

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

        Raises:
            IncompleteError: a key that must sign is not in `keys`.
            StorageError: the directory is not empty, or can't be written.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a repository; signs and changes nothing.

        Raises:
            StorageError: there is none.
        """
        raise NotImplementedError

    def root(self) -> bytes:
        """Return `1.root.json`: what devices are given out of band."""
        raise NotImplementedError

    def edit(
        self,
        keys: Sequence[Signer],
        *,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
    ) -> AbstractContextManager[Edit]:
        """Change the repository: all or nothing, when the `with` block ends well.

        Args:
            keys: private keys of every role that changes, and of snapshot and
                timestamp.
            clock: the machine's by default.
            time_checked: sign although the clock is far from the last signed time.
            state: the author's memory of this repository; without it, what the
                directory holds is believed from `1.root.json` on.
        """
        raise NotImplementedError

    def check(
        self, *, clock: Clock | None = None, state: TrustStore | None = None
    ) -> Report:
        """Look at everything as a fresh device and as one with the previous state."""
        raise NotImplementedError

    def status(
        self, *, within: timedelta, clock: Clock | None = None
    ) -> tuple[Duty, ...]:
        """Return every role with who must act; needs no key."""
        raise NotImplementedError
