"""Where vendors hand in submissions, and the operator takes them from.

    DIR                     <sha256 of the tar>.tar, whole or absent
    oci://HOST/PATH/inbox   a manifest with the tar as its one layer, under the sha256

A name says which bytes it has, so nobody can change what another has handed in, and to
hand in the same twice is to hand it in once. Nothing in an inbox is believed: whoever
may write there may fill it, and what is looked at is bounded.

Example:
    >>> inbox = open_inbox("inbox")  # doctest: +SKIP
    >>> inbox.put(submission)
    '0efd1feea313…'
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol, final

from margo_supplychain.authoring.submission_file import (
    read_claim,
    read_signed,
    read_submission,
    write_submission,
)
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    MalformedError,
    StorageError,
)
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.storage import durable
from margo_supplychain.storage.durable import (
    remove_file,
    storage_errors,
    temporary_file,
    write_all,
)
from margo_supplychain.verify.remote import remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_file import Claim, Gate
    from margo_supplychain.transport.network import Network

MOST_NAMES: Final = 1_000  # submissions that are looked at in one go
MOST_ENTRIES: Final = 100_000  # names of any kind that are read from an inbox
NAME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SUFFIX: Final = ".tar"


class Waiting(NamedTuple):
    """What lies in an inbox.

    Args:
        names: sha256 of each submission, sorted; at most 1,000.
        more: whether there are others, which were not looked at.
    """

    names: tuple[str, ...]
    more: bool

    @classmethod
    def of(cls, names: Sequence[str], *, more: bool) -> Waiting:
        """Return the first of these names, in order."""
        return cls(tuple(sorted(names)[:MOST_NAMES]), more or len(names) > MOST_NAMES)


class Inbox(Protocol):
    """One place for submissions."""

    @property
    def url(self) -> str:
        """What it is called in messages."""

    def put(self, submission: Submission) -> str:
        """Hand a submission in; return its name. Again is fine.

        Raises:
            FetchError, StorageError: it can't be written.
        """

    def names(self) -> Waiting:
        """Return what waits; nothing of it was read.

        Raises:
            FetchError, StorageError: there is no inbox, or no list of it.
        """

    def read(self, name: str) -> AbstractContextManager[Submission]:
        """Open a submission, every byte compared with its name and its list.

        Args:
            name: lower-case hex, see `names`.

        Raises:
            MalformedError: its bytes are no submission, or another one; or what has
                the name is no file.
            FetchError: `missing` if there is none of that name.
            StorageError: it can't be read.
        """

    def signed(self, name: str, gate: Gate | None = None) -> Submission:
        """Return a submission without its content, which is not read.

        Its name is not compared either: who uses it looks at its signatures.

        Args:
            name: see `read`.
            gate: asked on the way whether the rest is read, too.

        Raises:
            MalformedError, FetchError, StorageError: see `read`.
            SupplyChainError: what the gate says.
        """

    def claim(self, name: str) -> Claim:
        """Return what a submission says it is; only its list is read.

        Raises:
            MalformedError, FetchError, StorageError: see `read`.
        """

    def remove(self, name: str) -> bool:
        """Take a submission away; return whether it is gone.

        Registries may keep what they have: then it waits on, and is refused or found
        to be taken each time.

        Raises:
            RefusedError: another submission would go with it.
            FetchError, StorageError: it can't be removed.
        """


def open_inbox(url: str | Path, *, network: Network | None = None) -> Inbox:
    """Return the inbox at a path or `oci://HOST/PATH`; nothing is read yet.

    Args:
        url: a directory, or a repository of a registry.
        network: limits and credentials of what comes over the network.

    Raises:
        FormatError: no kind of place that is an inbox.
    """
    text = str(url)
    if isinstance(url, str) and text.startswith(SCHEME):
        from margo_supplychain.authoring.registry_inbox import open_registry_inbox

        return open_registry_inbox(text, network=network)
    if isinstance(url, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        raise FormatError(
            f"{text[:160]} is no inbox: expected a directory or oci://HOST/PATH",
            hint="write ./ in front of a path that holds a colon",
        )
    if not text or "\0" in text:
        raise FormatError("the inbox has no name")
    return DirectoryInbox(Path(url))


def checked_name(name: str) -> str:
    """Return `name` if it is a submission's: 64 lower-case hex digits.

    Raises:
        FormatError: it is not.
    """
    if NAME.fullmatch(name) is None:
        raise FormatError(
            f"{name[:160]!r} is no submission's name: expected 64 lower-case hex digits"
        )
    return name


@final
class DirectoryInbox:
    """An inbox in a directory that vendors may write to; implements `Inbox`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def url(self) -> str:
        """The directory."""
        return str(self.directory)

    def put(self, submission: Submission) -> str:
        """Hand a submission in; see `Inbox.put`."""
        self._require()
        with storage_errors(self.directory, "write to"):
            with temporary_file(self.directory, 0o644) as (temporary, descriptor):
                name = write_submission(
                    submission, lambda piece: write_all(descriptor, piece)
                )
                durable.operations.sync_file(descriptor)
                # What has the name is these bytes, or it is damaged.
                durable.operations.replace(temporary, self._path(name))
            durable.operations.sync_directory(self.directory)
        return name

    def names(self) -> Waiting:
        """Return what waits; see `Inbox.names`."""
        self._require()
        found: list[str] = []
        more = False
        with storage_errors(self.directory, "list"), os.scandir(self.directory) as all_:
            for number, entry in enumerate(all_):
                if number >= MOST_ENTRIES:
                    more = True
                    break
                name = entry.name.removesuffix(_SUFFIX)
                if name == entry.name or NAME.fullmatch(name) is None:
                    continue
                # Nobody can hand in a directory, or have it cleared away as a file.
                if not entry.is_dir(follow_symlinks=False):
                    found.append(name)
        return Waiting.of(found, more=more)

    @contextmanager
    def read(self, name: str) -> Iterator[Submission]:
        """Open a submission; see `Inbox.read`."""
        with self._open(name) as file:
            with remote(self.url):
                submission = read_submission(file, what=_what(name), sha256=name)
            yield submission

    def signed(self, name: str, gate: Gate | None = None) -> Submission:
        """Return a submission without its content; see `Inbox.signed`."""
        with self._open(name) as file, remote(self.url):
            return read_signed(file, what=_what(name), gate=gate)

    def claim(self, name: str) -> Claim:
        """Return what a submission says it is; see `Inbox.claim`."""
        with self._open(name) as file, remote(self.url):
            return read_claim(file, what=_what(name))

    def _open(self, name: str) -> BinaryIO:
        path = self._path(checked_name(name))
        try:
            return durable.open_regular(path, follow=False)
        except FileNotFoundError as why:
            raise FetchError(
                f"{self.url} has no {_what(name)}", url=self.url, missing=True
            ) from why
        except StorageError as why:
            # A link or pipe stays what it is, and may be cleared away like any rubbish;
            # a file that can't be read may be another matter tomorrow.
            if not _is_file(path):
                raise MalformedError(f"{self.url}: {why}") from why
            raise

    def remove(self, name: str) -> bool:
        """Take a submission away; see `Inbox.remove`."""
        remove_file(self._path(checked_name(name)))
        return True

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{_SUFFIX}"

    def _require(self) -> None:
        """Refuse an inbox that is not there: a stick may not be mounted.

        Raises:
            StorageError: it is no directory.
        """
        if not self.directory.is_dir():
            raise StorageError(
                f"{self.directory} is no directory, and so no inbox",
                path=str(self.directory),
                hint="make it, or mount what it is on; the operator says where it is",
            )


def _is_file(path: Path) -> bool:
    """Say whether a regular file has this name, or perhaps: that can't be told."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


def _what(name: str) -> str:
    return f"submission {name[:12]}"
