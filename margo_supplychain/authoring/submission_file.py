"""A submission as one file: a plain tar whose bytes follow from what it holds.

    submission.json                           what every other member is, and how large
    metadata/<version>.<role>.json            by role
    targets/<directory>/<sha256>.<file>       by path
    blobs/sha256/<hex>                        content, by digest

`submission.json` comes first and says what the whole tar must be, byte for byte: each
header that follows is compared with the one that this module would write. So nothing is
in it that two readers could take for two things, no links, no second name, nothing that
is not listed; and the sha256 of the tar is the name of what it says. No times, no
owners. Its bytes are unverified, and reading it believes nobody.

Example:
    >>> with open_submission(Path("acme.tar")) as submission:  # doctest: +SKIP
    ...     submission.label
    'acme v4'
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from tarfile import PAX_FORMAT, TarInfo
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Final,
    NamedTuple,
    NoReturn,
    Protocol,
)

from margo_supplychain.authoring.overlay import Nowhere
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.submission import (
    MAX_CONTENT,
    MAX_FILES,
    MAX_TARGET,
    MOST_BLOBS,
    MOST_ROLES,
    MOST_TARGETS,
    OPERATOR,
    Base,
    Submission,
    SubmittedTarget,
)
from margo_supplychain.errors import FetchError, MetadataFormatError, RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.fields import Fields, check_format
from margo_supplychain.formats.names import (
    TargetPath,
    publisher_name,
    target_path,
)
from margo_supplychain.formats.tar_stream import BLOCK
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name, parse_targets
from margo_supplychain.storage import durable
from margo_supplychain.storage.durable import (
    open_regular,
    storage_errors,
    temporary_file,
    write_all,
)
from margo_supplychain.storage.receive import check_stream
from margo_supplychain.transport.bounded import BoundedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tuf.api.metadata import Targets

    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source

    Write = Callable[[bytes | memoryview], object]

MEDIA_TYPE: Final = "application/vnd.margo-supplychain.submission.v1+tar"
FORMAT: Final = 1
FIRST: Final = "submission.json"
MAX_LIST: Final = 4 << 20  # bytes of submission.json
MAX_SIZE: Final = MAX_CONTENT + MAX_FILES + 2 * MAX_LIST + (64 << 20)
"""Bytes of a whole tar, with its headers."""
_SPREAD: Final = 8  # fewest bytes for each value in it
# Of metadata, where a delegation by short names has 18 and a release more than 30.
_SPREAD_OF_ROLES: Final = 12
_OCTETS: Final = "application/octet-stream"
_END: Final = bytes(2 * BLOCK)


class Claim(NamedTuple):
    """What a submission says it is, by its list alone; unsigned.

    Args:
        publisher: whose.
        roles: (role, version, sha256 of its file) of each.
    """

    publisher: str
    roles: tuple[tuple[str, int, str], ...]


class Gate(Protocol):
    """Decides on the way whether a submission is read any further."""

    def begin(self, claim: Claim) -> None:
        """Look at what it says it is.

        Raises:
            SupplyChainError: it is not read.
        """

    def require(self, file: RoleFile[Targets]) -> None:
        """Look at the next of its roles; those before it were let through.

        Raises:
            SupplyChainError: it is not read any further.
        """


class _Member(NamedTuple):
    name: str
    size: int


class _Listed(NamedTuple):
    """What `submission.json` says of a file, unverified."""

    name: str
    version: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """The content of `submission.json`, unverified."""

    publisher: str
    created: Any
    base: Base
    metadata: tuple[_Listed, ...]
    targets: tuple[_Listed, ...]
    content: tuple[Descriptor, ...]
    note: str | None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "publisher": self.publisher,
            "created": format_time(self.created),
            "base": {"version": self.base.version, "sha256": self.base.sha256},
            "metadata": [
                {
                    "role": one.name,
                    "version": one.version,
                    "size": one.size,
                    "sha256": one.sha256,
                }
                for one in self.metadata
            ],
            "targets": [
                {"path": one.name, "size": one.size, "sha256": one.sha256}
                for one in self.targets
            ],
            "content": [
                {
                    "mediaType": what.media_type,
                    "digest": str(what.digest),
                    "size": what.size,
                }
                for what in self.content
            ],
        }
        if self.note is not None:
            document["note"] = self.note
        return strict_json.canonical(document)


# --- writing -------------------------------------------------------------------------


def write_submission(submission: Submission, write: Write) -> str:
    """Write a submission's tar; return its sha256, which is its name.

    Args:
        submission: what to write; its content is compared with its digests.
        write: takes each piece.

    Raises:
        VerificationError: content has other bytes than it should.
        MetadataFormatError: the list of its members is too long.
        FetchError: content can't be read.
    """
    hasher = hashlib.sha256()

    def put(piece: bytes | memoryview) -> None:
        hasher.update(piece)
        write(piece)

    def put_member(name: str, data: bytes) -> None:
        put(_header(name, len(data)))
        put(data)
        put(bytes(-len(data) % BLOCK))

    listed = _list_of(submission).to_bytes()
    if len(listed) > MAX_LIST:
        raise MetadataFormatError(
            f"{FIRST} would have {len(listed)} bytes, more than {MAX_LIST}",
            hint="hand it in in parts",
        )
    put_member(FIRST, listed)
    for role in submission.roles:
        put_member(_metadata_member(role.role, role.version), role.data)
    for target in submission.targets:
        put_member(_target_member(target.path, target.what.digest.hex), target.data)
    for what in submission.content:
        put(_header(_blob_member(what.digest), what.size))
        with submission.source.blob(what) as stream:
            check_stream(what, stream, subject=str(what.digest), write=put)
        put(bytes(-what.size % BLOCK))
    put(_END)
    return hasher.hexdigest()


def submission_size(submission: Submission) -> int:
    """Return how many bytes the tar has."""
    return _size(_list_of(submission))


def _list_of(submission: Submission) -> _List:
    return _List(
        publisher=submission.publisher,
        created=submission.created,
        base=submission.base,
        metadata=tuple(
            _Listed(one.role, one.version, len(one.data), one.sha256)
            for one in submission.roles
        ),
        targets=tuple(
            _Listed(one.path, 0, len(one.data), one.what.digest.hex)
            for one in submission.targets
        ),
        content=submission.content,
        note=submission.note,
    )


# --- reading -------------------------------------------------------------------------


@contextmanager
def open_submission(path: Path) -> Iterator[Submission]:
    """Open the file of a submission; its content is read as long as it is open.

    Args:
        path: a regular file, unverified.

    Raises:
        FileNotFoundError: there is none.
        MetadataFormatError: it is no submission.
        StorageError: it can't be read.
    """
    with open_regular(path) as file:
        yield read_submission(file, what=str(path))


def read_submission(
    file: BinaryIO, *, what: str = "submission", sha256: str | None = None
) -> Submission:
    """Read a submission from a file on disk; content is read when it is asked for.

    Every byte is read once and compared with its digest; content again when it is used.

    Args:
        file: unverified; to be left open as long as the submission is used.
        what: names it in errors.
        sha256: what the whole of it must be, if that is known.

    Raises:
        MetadataFormatError: it is no submission, or another one.
    """
    return _Reading(file, what).submission(sha256)


def read_signed(
    stream: BinaryIO, *, what: str = "submission", gate: Gate | None = None
) -> Submission:
    """Read a submission up to its content, which is left out: its name is not compared.

    Args:
        stream: unverified.
        what: names it in errors.
        gate: asked before each further role is read: what nobody has signed takes the
            memory of one role, and not of a thousand.

    Raises:
        MetadataFormatError: it is no submission.
        SupplyChainError: what the gate says.
    """
    return _Reading(stream, what).signed(gate)


def read_claim(stream: BinaryIO, *, what: str = "submission") -> Claim:
    """Return what a submission says it is; nothing but its list is read.

    Raises:
        MetadataFormatError: it does not begin as a submission.
    """
    return _claim(_Reading(stream, what).listed())


def save_submission(path: Path, submission: Submission, *, replaces: bool) -> None:
    """Write a submission to a file of its own, whole or not at all.

    Args:
        path: where to.
        submission: what to write; it may be read from that file.
        replaces: whether a file may be there.

    Raises:
        RefusedError: there is one.
        StorageError: it can't be written.
    """
    if not replaces:
        require_free(path)
    with storage_errors(path, "write"):
        with temporary_file(path.parent, 0o644) as (temporary, descriptor):
            write_submission(submission, lambda piece: write_all(descriptor, piece))
            durable.operations.sync_file(descriptor)
            durable.operations.replace(temporary, path)
        durable.operations.sync_directory(path.parent)


def require_free(path: Path) -> None:
    """Refuse to write over a file.

    Raises:
        RefusedError: there is one.
    """
    if os.path.lexists(path):
        raise RefusedError(
            f"{path} exists already", hint="take another name, or remove it"
        )


def is_submission(start: bytes) -> bool:
    """Say whether a file that begins so may be a submission."""
    return start.startswith(FIRST.encode() + b"\0")


class _Reading:
    """One pass over an unverified tar."""

    def __init__(self, file: BinaryIO, what: str) -> None:
        self._file = file
        self._what = what
        self._at = 0
        self._hasher = hashlib.sha256()

    def submission(self, sha256: str | None) -> Submission:
        """Return all of it."""
        listed = self.listed()
        size = os.fstat(self._file.fileno()).st_size
        if size != _size(listed):
            self._refuse(f"has {size} bytes, expected {_size(listed)}")
        roles, targets = self._files(listed)
        places = {what.digest: self._blob(what) for what in listed.content}
        if self._take(len(_END)) != _END or self._file.read(1):
            self._refuse("does not end where it should")
        found = self._hasher.hexdigest()
        if sha256 is not None and found != sha256:
            self._refuse(f"has sha256 {found}, expected {sha256}")
        source = _TarContent(self._file, places, self._what)
        return self._made(listed, roles, targets, source)

    def signed(self, gate: Gate | None) -> Submission:
        """Return it without the bytes of its content."""
        listed = self.listed()
        if gate is not None:
            gate.begin(_claim(listed))
        roles, targets = self._files(listed, gate)
        return self._made(listed, roles, targets, Nowhere(self._what))

    def listed(self) -> _List:
        """Return its list, which comes first."""
        head = self._take(BLOCK)
        text = head[124:135]
        size = int(text, 8) if text.isdigit() and not text.strip(b"01234567") else 0
        if not 0 < size <= MAX_LIST or head != _header(FIRST, size):
            self._refuse(
                f"does not begin with a {FIRST} of at most {MAX_LIST} bytes, as this "
                "package writes it"
            )
        data = self._take(size)
        self._padding(size)
        found = parse_list(data, what=f"{self._what}: {FIRST}")
        if found.to_bytes() != data:
            self._refuse(f"has a {FIRST} that is not canonical JSON")
        return found

    def _files(
        self, listed: _List, gate: Gate | None = None
    ) -> tuple[tuple[RoleFile[Targets], ...], tuple[SubmittedTarget, ...]]:
        sizes = (one.size for one in (*listed.metadata, *listed.targets))
        if (size := sum(sizes)) > MAX_FILES:
            self._refuse(f"lists files of {size} bytes, more than {MAX_FILES}")
        roles = tuple(self._role(one, gate) for one in listed.metadata)
        targets = tuple(
            SubmittedTarget(
                TargetPath(one.name),
                self._whole(_target_member(one.name, one.sha256), one),
            )
            for one in listed.targets
        )
        return roles, targets

    def _made(
        self,
        listed: _List,
        roles: tuple[RoleFile[Targets], ...],
        targets: tuple[SubmittedTarget, ...],
        source: Source,
    ) -> Submission:
        return Submission(
            publisher=listed.publisher,
            created=listed.created,
            base=listed.base,
            roles=roles,
            targets=targets,
            content=listed.content,
            note=listed.note,
            source=source,
        )

    def _role(self, one: _Listed, gate: Gate | None) -> RoleFile[Targets]:
        data = self._whole(_metadata_member(one.name, one.version), one)
        found = parse_targets(
            data, role=one.name, limit=LIMITS.targets, spread=_SPREAD_OF_ROLES
        )
        if found.version != one.version:
            self._refuse(f"has {found.label} as {one.name} v{one.version}")
        if gate is not None:
            gate.require(found)
        return found

    def _whole(self, name: str, one: _Listed) -> bytes:
        self._header(name, one.size)
        data = self._take(one.size)
        self._padding(one.size)
        if hashlib.sha256(data).hexdigest() != one.sha256:
            self._refuse(f"has other bytes as {name} than it lists")
        return data

    def _blob(self, what: Descriptor) -> int:
        """Read content past, and return where it begins."""
        name = _blob_member(what.digest)
        self._header(name, what.size)
        begins = self._at
        hasher = hashlib.new(what.digest.algorithm)
        left = what.size
        while left:
            piece = self._take(min(left, 1 << 20))
            hasher.update(piece)
            left -= len(piece)
        self._padding(what.size)
        if hasher.hexdigest() != what.digest.hex:
            self._refuse(f"has other bytes as {name} than it lists")
        return begins

    def _header(self, name: str, size: int) -> None:
        expected = _header(name, size)
        if self._take(len(expected)) != expected:
            self._refuse(
                f"has something else where its list has {name[:240]} of {size} bytes"
            )

    def _padding(self, size: int) -> None:
        if any(self._take(-size % BLOCK)):
            self._refuse("has something between its members")

    def _take(self, size: int) -> bytes:
        found = self._file.read(size) if size else b""
        if len(found) != size:
            self._refuse("ends early")
        self._at += size
        self._hasher.update(found)
        return found

    def _refuse(self, why: str) -> NoReturn:
        raise MetadataFormatError(f"{self._what} {why}")


class _TarContent(Nowhere):
    """The content of a submission's tar; a `Source` of blobs alone."""

    def __init__(self, file: BinaryIO, places: dict[Digest, int], url: str) -> None:
        super().__init__(url)
        self._file = file
        self._places = places

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content; see `Source.blob`."""
        del tick
        place = self._places.get(what.digest)
        if place is None:
            raise FetchError(
                f"{self.url} has no {what.digest}", url=self.url, missing=True
            )
        left = what.size - start
        at = place + start

        def read_into(buffer: memoryview) -> int:
            nonlocal at, left
            count = os.preadv(self._file.fileno(), [buffer[:left]], at)
            at += count
            left -= count
            return count

        yield BoundedStream(read_into, left=left, url=self.url).as_binary()


def parse_list(data: bytes, *, what: str) -> _List:
    """Parse the unverified bytes of `submission.json`.

    Raises:
        MetadataFormatError: it is none, or beyond the limits.
    """
    parsed = strict_json.parse(data, what=what, limit=MAX_LIST, spread=_SPREAD)
    fields = Fields(parsed, what=what)
    check_format(fields, FORMAT)
    base = fields.object("base")
    found = _List(
        publisher=fields.text("publisher"),
        created=fields.time("created"),
        base=Base(base.integer("version"), _sha256(base)),
        metadata=tuple(
            _listed(one, "role", LIMITS.targets)
            for one in fields.objects("metadata", limit=MOST_ROLES)
        ),
        targets=tuple(
            _listed(one, "path", MAX_TARGET)
            for one in fields.objects("targets", limit=MOST_TARGETS)
        ),
        content=tuple(
            _content(one) for one in fields.objects("content", limit=MOST_BLOBS)
        ),
        note=fields.text("note") if fields.has("note") else None,
    )
    base.done()
    fields.done()
    return found


def _claim(listed: _List) -> Claim:
    publisher = listed.publisher
    return Claim(
        publisher if publisher == OPERATOR else publisher_name(publisher),
        tuple((one.name, one.version, one.sha256) for one in listed.metadata),
    )


def _listed(fields: Fields, key: str, most: int) -> _Listed:
    is_role = key == "role"
    name = fields.text(key) if is_role else fields.parsed(key, target_path)
    found = _Listed(
        name=name,
        version=fields.integer("version") if is_role else 0,
        size=fields.integer("size"),
        sha256=_sha256(fields),
    )
    if not 0 <= found.size <= most:
        raise MetadataFormatError(
            f"{fields.what} has {found.size} bytes, more than the limit of {most}"
        )
    fields.done()
    return found


def _sha256(fields: Fields) -> str:
    return fields.parsed("sha256", lambda text: Digest("sha256", text)).hex


def _content(fields: Fields) -> Descriptor:
    found = Descriptor(
        media_type=fields.text("mediaType"),
        digest=fields.parsed("digest", Digest.parse),
        size=fields.integer("size"),
    )
    fields.done()
    return found


# --- members -------------------------------------------------------------------------


def _size(listed: _List) -> int:
    members = [
        _Member(FIRST, len(listed.to_bytes())),
        *(
            _Member(_metadata_member(one.name, one.version), one.size)
            for one in listed.metadata
        ),
        *(
            _Member(_target_member(one.name, one.sha256), one.size)
            for one in listed.targets
        ),
        *(_Member(_blob_member(what.digest), what.size) for what in listed.content),
    ]
    return len(_END) + sum(
        len(_header(one.name, one.size)) + one.size + -one.size % BLOCK
        for one in members
    )


def _metadata_member(role: str, version: int) -> str:
    return f"metadata/{file_name(role, version)}"


def _target_member(path: str, sha256: str) -> str:
    directory, slash, name = path.rpartition("/")
    return f"targets/{directory}{slash}{sha256}.{name}"


def _blob_member(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _header(name: str, size: int) -> bytes:
    info = TarInfo(name)
    info.size = size
    return info.tobuf(PAX_FORMAT, "utf-8", "strict")
