"""Where a trust repository lies, as its author needs it: read, written and committed.

`Repository`, `ending` and `checks` know what an edit is; a `Place` knows how it gets
there. A directory has a lock and can be believed as far as its author believes the
disk. A registry has neither: names there are checked, read back and healed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.placement import Mirrored
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Shelf, Source

    Progress = Callable[[str, int, int], None]
    """What is being copied, how much of it, and how much there is; as `Control`'s."""


_ARCHIVE: Final = "oci-archive:"
_LAYOUT: Final = "oci-layout:"


class Stored(NamedTuple):
    """How many blobs of content were new, and how many lay there already.

    `told` is what the author should know, one line each.
    """

    new: int = 0
    there: int = 0
    told: tuple[str, ...] = ()


class Place(Protocol):
    """One trust repository, wherever it lies."""

    @property
    def url(self) -> str:
        """What it is called in messages: a path or a URL, without credentials."""

    @property
    def source(self) -> Source:
        """What lies there, unverified."""

    @property
    def shelf(self) -> Shelf:
        """What may be looked through there, and put right.

        Raises:
            RefusedError: it is somebody else's, and only read.
        """

    @property
    def is_own(self) -> bool:
        """Whether it is the author's own disk, and not what somebody else shows."""

    def locked(self) -> AbstractContextManager[object]:
        """Keep other publishers out, as far as that can be done there.

        Raises:
            StorageError: another one is at work.
        """

    def first_root(self) -> bytes | None:
        """Return `1.root.json`; None where it must come from somebody else.

        Raises:
            FormatError: there is no trust repository.
            StorageError: it can't be read.
        """

    def settings(self) -> Settings:
        """Return what was written down of profile and owners; nothing to rely on."""

    def written(self, role: str, version: int) -> bytes | None:
        """Return what has a versioned name already; None if the name is free.

        Empty if the name is taken and what has it is not to be adopted.

        Raises:
            FetchError: that can't be found out.
        """

    def located(self, release: Release) -> Release:
        """Return a release with the locations that its record shall have.

        Raises:
            RefusedError: it can't be put where it says it is.
        """

    def lost(self, release: Release) -> tuple[Descriptor, ...]:
        """Return those parts of a listed release that are damaged or missing."""

    def keeps(self, what: Descriptor) -> bool:
        """Say whether an attestation of a listed release is there, and stays.

        Raises:
            FetchError: that can't be found out.
        """

    def write(self, work: Work) -> Stored:
        """Write everything but the timestamp: content, attestations, then files.

        Raises:
            VerificationError: a blob is not what was signed, or no device takes it.
            ConflictError: somebody else published in the meantime.
            StorageError, FetchError: something can't be written, or read.
        """

    def write_metadata(self, work: Work) -> None:
        """Write the staged metadata alone; see `write`."""

    def commit(self, work: Work) -> None:
        """Write the timestamp: from now on devices see the new state.

        Raises:
            ConflictError: somebody else published in the meantime.
            StorageError, FetchError: it can't be written.
        """

    def versions(self, role: str) -> Sequence[int]:
        """Return the versions of a role whose names are taken, ascending.

        None of them where whoever publishes holds a lock.

        Raises:
            FetchError: there is no list.
        """

    def witness(self, work: Work) -> bool:
        """Write the timestamp under a name of its own, which never moves.

        Returns:
            Whether it stands; False if the keys of timestamp signed what has the name.

        Raises:
            ConflictError: somebody else writes that name.
            StorageError, FetchError: it can't be written.
        """

    def source_at(self, timestamp: bytes) -> Source:
        """Return what lies there as if `timestamp` were these bytes."""

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return exactly the file that a snapshot's entry names.

        Raises:
            FetchError: it is not there, by name or by digest.
        """

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Take note of what a new snapshot names, wherever its bytes are."""

    def settle(self, work: Work) -> None:
        """Look once more at what the timestamp names, and put back what is not so."""


def open_place(
    where: Path | str,
    *,
    network: Network | None = None,
    mirrored: Mirrored | None = None,
) -> Place:
    """Return the place for a path or URL; nothing is read yet.

    Args:
        where: a path, or a URL; what has no scheme is a directory.
        network: limits and credentials of what comes over the network.
        mirrored: the owner's map of locations, see `ContentTargets`.

    Raises:
        FormatError: no kind of URL that can be edited.
    """
    from margo_supplychain.authoring.content_targets import ContentTargets
    from margo_supplychain.authoring.directory_place import DirectoryPlace
    from margo_supplychain.authoring.tagged_place import TaggedPlace
    from margo_supplychain.transport.directory import DirectorySink
    from margo_supplychain.transport.layout_sink import LayoutSink
    from margo_supplychain.transport.opening import open_sink
    from margo_supplychain.transport.tagged_sink import TaggedSink

    if isinstance(where, Path):
        return DirectoryPlace(where)
    sink = open_sink(where, network=network)
    if isinstance(sink, DirectorySink):
        return DirectoryPlace(sink.directory)
    if isinstance(sink, LayoutSink) and not where.startswith(_LAYOUT):
        # A path without a scheme is a directory, whatever lies there.
        return DirectoryPlace(sink.directory)
    if sink.url.startswith(_ARCHIVE):
        raise FormatError(
            f"{sink.url} is a tar, which is written as a whole and not edited",
            hint="edit the repository where it is, and copy it: margo-supplychain "
            "repo push",
        )
    if not isinstance(sink, TaggedSink):
        raise FormatError(f"{sink.url} is no kind of place that can be edited")
    content = ContentTargets(sink, network=network, mirrored=mirrored)
    return TaggedPlace(sink, content)
