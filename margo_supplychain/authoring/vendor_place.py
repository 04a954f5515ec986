"""An operator's repository as its vendors see it: read as a device could, not written.

A directory, `https://…` or `oci://…`; nothing there is believed but what the root or
memory of the vendor says. What a vendor writes goes elsewhere: content into registries
of his own, or into the submission itself.

    release with an oci:// location    there, and components below the parent of it, as
                                       `release publish` does (`content_targets`)
    any other                          into the submission's tar; refused where the
                                       operator's repository is a registry, which takes
                                       no content beside its metadata
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, final

from margo_supplychain.authoring.content_targets import (
    ContentTargets,
    registry_location,
)
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.place import Stored
from margo_supplychain.authoring.settings import Settings
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.stored_checks import check_release
from margo_supplychain.errors import FetchError, RefusedError, TooLargeError
from margo_supplychain.formats.references import SCHEME, RegistryReference
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.placement import Mirrored
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Attested, NewRelease, Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Shelf, Source


def open_vendor_place(
    where: Path | str,
    *,
    network: Network | None = None,
    mirrored: Mirrored | None = None,
) -> VendorPlace:
    """Return an operator's repository at a path or URL; nothing is read yet.

    Raises:
        FormatError: no kind of URL.
    """
    source = open_source(where, network=network)
    return VendorPlace(source, network=network, mirrored=mirrored)


@dataclass(slots=True)
class _Group:
    """What goes below one parent."""

    targets: ContentTargets
    new: list[NewRelease] = field(default_factory=list)
    kept: list[Release] = field(default_factory=list)
    attested: list[Attested] = field(default_factory=list)


@final
class VendorPlace:
    """An operator's repository that a vendor reads; implements `Place`.

    Args:
        source: what lies there, unverified.
        network: limits and credentials for the vendor's own registries.
        mirrored: the vendor's map: where to look for what is not pushed.
    """

    is_own = False

    def __init__(
        self,
        source: Source,
        *,
        network: Network | None = None,
        mirrored: Mirrored | None = None,
    ) -> None:
        self.source = source
        self._network = network
        self._mirrored = mirrored
        self._targets: dict[RegistryReference, ContentTargets] = {}

    @property
    def url(self) -> str:
        """The operator's place."""
        return self.source.url

    def locked(self) -> AbstractContextManager[object]:
        """Lock nothing: it is only read."""
        return nullcontext()

    def first_root(self) -> None:
        """Return None: whoever serves a repository must not choose its keys."""

    def settings(self) -> Settings:
        """Return what holds without any; see `Place.settings`."""
        return Settings(profile="standard")

    # --- what is read ----------------------------------------------------------------

    def written(self, role: str, version: int) -> bytes | None:
        """Return what has a versioned name already; see `Place.written`."""
        try:
            return self.source.metadata(file_name(role, version), limit=LIMITS.targets)
        except TooLargeError:
            return b""
        except FetchError as why:
            if why.missing:
                return None
            raise

    def versions(self, role: str) -> Sequence[int]:
        """Return nothing: a device has no list either."""
        del role
        return ()

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return a metadata file; see `Place.named`."""
        limit = entry.length or LIMITS.targets
        return self.source.metadata(file_name(role, entry.version), limit=limit)

    def source_at(self, timestamp: bytes) -> Source:
        """Return the place with another timestamp; see `Place.source_at`."""
        return Overlay(Staged(timestamp=timestamp), self.source)

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Do nothing: what is not under its name is not there."""

    # --- where content goes ----------------------------------------------------------

    def located(self, release: Release) -> Release:
        """Return the release, if it may go where it says; see `Place.located`."""
        targets = self._targets_of(release)
        if targets is not None:
            return targets.located(release)
        if self.url.startswith(SCHEME):
            raise RefusedError(
                f"{release.name} {release.version} names no registry with its content, "
                f"and {self.url} takes none",
                hint="say where its content goes: --location oci://HOST/PATH when you "
                "build it",
            )
        return release

    def lost(self, release: Release) -> tuple[Descriptor, ...]:
        """Return what the vendor's registry has lost; see `Place.lost`."""
        targets = self._targets_of(release)
        return () if targets is None else targets.lost(release)

    def keeps(self, what: Descriptor) -> bool:
        """Return True: what the operator has lost is his to bring back."""
        del what
        return True

    def comes_along(self, release: Release) -> bool:
        """Say whether a release's content is part of the submission."""
        return registry_location(release) is None

    def push(
        self,
        new: Sequence[NewRelease],
        kept: Sequence[Release],
        *,
        attested: Sequence[Attested] = (),
        progress: Progress | None,
    ) -> Stored:
        """Check new content as devices do, and push it to the vendor's registries.

        Args:
            new: releases with their records.
            kept: releases that are listed, and of which something was lost.
            attested: attestations, for those who look for them beside a package.
            progress: told what is being copied.

        Raises:
            VerificationError: every device would refuse it.
            RefusedError, FetchError, StorageError: it can't be put there.
        """
        groups: dict[int, _Group] = {}
        for one in new:
            targets = self._targets_of(one.release)
            if targets is None:
                check_release(one, progress=progress)
            else:
                groups.setdefault(id(targets), _Group(targets)).new.append(one)
        for release in kept:
            targets = self._targets_of(release)
            if targets is not None:
                groups.setdefault(id(targets), _Group(targets)).kept.append(release)
        for each in attested:
            targets = self._targets_of(each.release)
            if targets is not None:
                groups.setdefault(id(targets), _Group(targets)).attested.append(each)
        stored = [
            group.targets.put_new(
                group.new, kept=group.kept, attested=group.attested, progress=progress
            )
            for group in groups.values()
        ]
        return Stored(
            sum(one.new for one in stored),
            sum(one.there for one in stored),
            tuple(text for one in stored for text in one.told),
        )

    def _targets_of(self, release: Release) -> ContentTargets | None:
        """Return the registry that a release says it lies in, as its vendor's own."""
        at = registry_location(release)
        if at is None:
            return None
        parent = RegistryReference.parse(at).parent
        if parent not in self._targets:
            self._targets[parent] = ContentTargets(
                self.url,
                network=self._network,
                mirrored=self._mirrored,
                parent=parent,
            )
        return self._targets[parent]

    # --- what is not -----------------------------------------------------------------

    @property
    def shelf(self) -> Shelf:
        """Refuse: see `_refuse`."""
        self._refuse()

    def write(self, work: Work) -> Stored:
        """Refuse: see `_refuse`."""
        self._refuse(work)

    def write_metadata(self, work: Work) -> None:
        """Refuse: see `_refuse`."""
        self._refuse(work)

    def commit(self, work: Work) -> None:
        """Refuse: see `_refuse`."""
        self._refuse(work)

    def witness(self, work: Work) -> bool:
        """Refuse: see `_refuse`."""
        self._refuse(work)

    def settle(self, work: Work) -> None:
        """Refuse: see `_refuse`."""
        self._refuse(work)

    def _refuse(self, work: Work | None = None) -> NoReturn:
        del work
        raise RefusedError(
            f"{self.url} is the operator's, and only read here",
            hint="hand in what you sign: margo-supplychain release submit",
        )
