"""Submissions with throw-away keys, for the tests of what vendors hand in."""

from __future__ import annotations

import io
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from tuf.api.metadata import TargetFile, Targets

from margo_supplychain.authoring.overlay import Nowhere
from margo_supplychain.authoring.roles import RoleSigners
from margo_supplychain.authoring.signatures import Signers, signed_bytes
from margo_supplychain.authoring.submission import Base, Submission, SubmittedTarget
from margo_supplychain.authoring.submission_file import write_submission
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import parse_targets
from tests.authoring.trust import NOW, PUMP, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from securesystemslib.signer import CryptoSigner

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.tuf_metadata import RoleFile

OCTETS = "application/octet-stream"
RECORD = PUMP.release_path("1.0.0")


class Held(Nowhere):
    """Content in memory."""

    def __init__(self, blobs: Sequence[bytes]) -> None:
        super().__init__("memory")
        self.blobs = {Descriptor.of(one, OCTETS).digest: one for one in blobs}

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open one of them."""
        del tick
        yield io.BytesIO(self.blobs[what.digest][start:])


def who_signs(role: str, *names: str, threshold: int = 1) -> RoleSigners:
    """Return the keys that a role has."""
    keys = [key(name).public_key for name in names]
    return RoleSigners(role, {one.keyid: one for one in keys}, threshold)


def role_file(
    role: str = PUMP.role,
    *,
    version: int = 1,
    signers: Sequence[CryptoSigner] = (),
    targets: Mapping[TargetPath, bytes] | None = None,
) -> RoleFile[Targets]:
    """Return a signed role that lists these target files."""
    keys = list(signers) or [key("ci")]
    who = RoleSigners(role, {one.public_key.keyid: one.public_key for one in keys}, 1)
    signed = Targets(
        version,
        expires=NOW + timedelta(days=30),
        targets={
            path: TargetFile(
                length=len(data),
                hashes={"sha256": Descriptor.of(data, OCTETS).digest.hex},
                path=path,
            )
            for path, data in (targets or {}).items()
        },
    )
    data = signed_bytes(signed, who, Signers(keys))
    return parse_targets(data, role=role, limit=len(data))


def submission(*, blobs: Sequence[bytes] = (), **changes: Any) -> Submission:
    """Return a submission of acme with one record."""
    record = target_path(RECORD), b'{"a": "record"}'
    content = sorted(
        (Descriptor.of(one, OCTETS) for one in blobs), key=lambda one: str(one.digest)
    )
    fields: dict[str, Any] = {
        "publisher": "acme",
        "created": NOW,
        "base": Base(3, "ab" * 32),
        "roles": (role_file(targets=dict([record])),),
        "targets": (SubmittedTarget(*record),),
        "content": tuple(content),
        "source": Held(blobs),
    }
    return Submission(**{**fields, **changes})


def tar_of(one: Submission) -> bytes:
    """Return the bytes of a submission's file."""
    found = io.BytesIO()
    write_submission(one, found.write)
    return found.getvalue()


def digests(one: Submission) -> list[Digest]:
    """Return the digests of its content."""
    return [what.digest for what in one.content]
