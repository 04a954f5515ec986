"""An inbox in a repository of a registry: a tagged manifest around each tar.

The tag is the sha256 of the tar, so it says itself which bytes it has: whatever else is
under it, is refused by who reads it and replaced by who hands in. A registry's own
rights decide who may do either.
"""

from __future__ import annotations

import io
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast, final

from margo_supplychain.authoring.inbox import (
    MOST_ENTRIES,
    NAME,
    Waiting,
    checked_name,
)
from margo_supplychain.authoring.submission_file import (
    MAX_SIZE,
    MEDIA_TYPE,
    read_claim,
    read_signed,
    read_submission,
    submission_size,
    write_submission,
)
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    ManifestRefusedError,
    OciFormatError,
    RefusedError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import EMPTY_BYTES, MANIFEST
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.formats.registry_form import MAX_WRAPPED, unwrapped, wrapping
from margo_supplychain.storage.durable import storage_errors
from margo_supplychain.storage.receive import check_stream
from margo_supplychain.transport.network import DEFAULT_NETWORK
from margo_supplychain.transport.oci_registry import RegistryRepository
from margo_supplychain.verify.remote import remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_file import Claim, Gate
    from margo_supplychain.formats.registry_form import Form, Wrapped
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.tagged import TaggedWriter


def open_registry_inbox(url: str, *, network: Network | None) -> RegistryInbox:
    """Return the inbox in a repository of a registry; nothing is asked yet.

    Raises:
        FormatError: no URL of a repository.
    """
    reference = RegistryReference.parse(url)
    if reference.tag is not None or reference.digest is not None:
        raise FormatError(
            f"{url[:160]} names one manifest, expected a repository",
            hint=f"write {reference.repository}",
        )
    repository = RegistryRepository(reference, network=network or DEFAULT_NETWORK)
    return RegistryInbox(repository)


@final
class RegistryInbox:
    """An inbox under tags; implements `Inbox`.

    Args:
        repository: takes manifests and blobs; used for submissions alone.
    """

    def __init__(self, repository: TaggedWriter) -> None:
        self._repository = repository

    @property
    def url(self) -> str:
        """The repository's URL."""
        return self._repository.url

    def put(self, submission: Submission) -> str:
        """Hand a submission in; see `Inbox.put`."""
        with _spool() as file:
            with _room():
                name = write_submission(submission, file.write)
                file.seek(0)
            layer = Descriptor(
                media_type=MEDIA_TYPE,
                digest=Digest("sha256", name),
                size=submission_size(submission),
            )
            self._repository.put_blob(layer, file)
        try:
            self._put_manifest(name, layer, "1.1")
        except ManifestRefusedError:
            self._put_manifest(name, layer, "1.0")
        return name

    def names(self) -> Waiting:
        """Return what waits; see `Inbox.names`."""
        found: list[str] = []
        more = False
        try:
            tags = self._repository.tags(most=MOST_ENTRIES)
            # What came before the limit is kept.
            found.extend(tag for tag in tags if NAME.fullmatch(tag))
        except TooLargeError:
            more = True
        except FetchError as why:
            # A registry has no repository before something is in it.
            if not why.missing:
                raise
        return Waiting.of(found, more=more)

    @contextmanager
    def read(self, name: str) -> Iterator[Submission]:
        """Open a submission; see `Inbox.read`."""
        what = f"submission {checked_name(name)[:12]}"
        with remote(self.url):
            layer = self._wrapped(name, what).layer
        with _spool() as file:
            with self._repository.open_blob(layer) as stream, _room():
                check_stream(
                    layer, stream, subject=what, write=lambda piece: _put(file, piece)
                )
                file.flush()
                file.seek(0)
            with remote(self.url):
                submission = read_submission(file, what=what, sha256=name)
            yield submission

    def signed(self, name: str, gate: Gate | None = None) -> Submission:
        """Return a submission without its content; see `Inbox.signed`."""
        what = f"submission {checked_name(name)[:12]}"
        with remote(self.url):
            layer = self._wrapped(name, what).layer
            with self._repository.open_blob(layer) as stream:
                return read_signed(stream, what=what, gate=gate)

    def claim(self, name: str) -> Claim:
        """Return what a submission says it is; see `Inbox.claim`."""
        what = f"submission {checked_name(name)[:12]}"
        with remote(self.url):
            layer = self._wrapped(name, what).layer
            with self._repository.open_blob(layer) as stream:
                return read_claim(stream, what=what)

    def remove(self, name: str) -> bool:
        """Take a submission away, if the registry lets us; see `Inbox.remove`.

        A manifest goes with all its tags: so that of another submission stays, whoever
        has put this name beside it.
        """
        try:
            data, _ = self._repository.manifest(checked_name(name), limit=MAX_WRAPPED)
        except FetchError as why:
            return why.missing
        if (other := self._other_name(name, data)) is not None:
            raise RefusedError(
                f"it is a second tag of submission {other[:12]}, which would go with "
                "it",
                hint="remove the tag alone, with the registry's own tools",
            )
        try:
            self._repository.delete_manifest(Digest.of(data))
        except FetchError as why:
            return why.missing
        except RefusedError:
            return False
        return True

    def _other_name(self, name: str, data: bytes) -> str | None:
        """Return which other submission waits by the very same manifest, if one does.

        Raises:
            FetchError: that can't be found out.
        """
        try:
            found = unwrapped(data, what=f"submission {name[:12]}")
        except OciFormatError:
            return None
        other = found.layer.digest.hex
        if found.kind != MEDIA_TYPE or other == name or NAME.fullmatch(other) is None:
            return None
        try:
            there, _ = self._repository.manifest(other, limit=MAX_WRAPPED)
        except FetchError as why:
            if not why.missing:
                raise
            return None
        return other if there == data else None

    def _put_manifest(self, name: str, layer: Descriptor, form: Form) -> None:
        manifest, config = wrapping(layer, form=form, title=f"{name}.tar")
        self._repository.put_blob(config, io.BytesIO(EMPTY_BYTES))
        self._repository.put_manifest(manifest, MANIFEST, tag=name)

    def _wrapped(self, name: str, what: str) -> Wrapped:
        """Return what the manifest under a name says, if it is that of the name.

        Raises:
            OciFormatError: it is another one, or none.
            FetchError: `missing` if there is none.
        """
        data, _ = self._repository.manifest(name, limit=MAX_WRAPPED)
        found = unwrapped(data, what=what)
        if found.kind != MEDIA_TYPE or found.layer.digest != Digest("sha256", name):
            raise OciFormatError(
                f"{what} is {found.kind} of {found.layer.digest}, expected {MEDIA_TYPE}"
            )
        if found.layer.size > MAX_SIZE:
            raise OciFormatError(
                f"{what} has {found.layer.size} bytes, more than the limit of "
                f"{MAX_SIZE}"
            )
        return found


def _spool() -> AbstractContextManager[BinaryIO]:
    """Return a file on disk that nobody else sees."""
    # typeshed has a class of its own for it, which does all that a BinaryIO does.
    return cast("AbstractContextManager[BinaryIO]", tempfile.TemporaryFile())


def _put(file: BinaryIO, piece: memoryview) -> None:
    file.write(piece)


def _room() -> AbstractContextManager[None]:
    """Turn a full disk into `StorageError`."""
    return storage_errors(Path(tempfile.gettempdir()), "write to")
