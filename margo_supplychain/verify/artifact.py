"""Step 3: the release record and the manifest, exact bytes by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import (
    FetchError,
    MalformedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import parse_manifest
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.verify.remote import remote
from margo_supplychain.verify.turns import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.transport.protocols import ContentSources, Source
    from margo_supplychain.verify.limits import Budget, Limits
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.resolve import Candidate
    from margo_supplychain.verify.turns import Turn


def fetch_record(
    walk: Walk, name: ReleaseName, candidate: Candidate, limits: Limits
) -> ReleaseRecord:
    """Return the record that a candidate names, after it agreed with its own path.

    Raises:
        MalformedError: it is no record, or is about something else.
        DigestMismatchError, LengthMismatchError: other bytes than signed.
    """
    data = walk.target(candidate.path, candidate.file, limit=limits.record)
    with remote(candidate.path):
        record = ReleaseRecord.parse(data)
    # check 3.10: the record agrees with its own path
    if record.name != name or record.version != candidate.version:
        raise MalformedError(
            f"{candidate.path} is the record of {record.name} {record.version}"
        )
    entry = candidate.entry
    # check 3.11: and with the list that withdrawals and deployments go by
    if entry is None or record.artifact.digest != entry.artifact:
        raise MalformedError(
            f"{candidate.path} names the artifact {record.artifact.digest.short}, its "
            "entry in the signed list another"
        )
    # check 3.12: likewise its profiles
    if record.profiles() != entry.profiles:
        raise MalformedError(
            f"{candidate.path} has other profiles than its entry in the signed list"
        )
    return record


def fetch_manifest(
    record: ReleaseRecord,
    content: ContentSources,
    copies: Callable[[str], bytes | None],
    *,
    limits: Limits,
    budget: Budget,
) -> bytes:
    """Return the artifact's manifest: exact bytes, and what the record says it is.

    Raises:
        DigestMismatchError, LengthMismatchError: every source has other bytes.
        FetchError: no source has it.
        MalformedError: not a manifest, or of another type than signed.
    """
    what = record.artifact
    # check 3.20: a signed size does not lift the device's limit
    if what.size > limits.manifest:
        raise MalformedError(
            f"the manifest of {record.name} {record.version} has {what.size} bytes, "
            f"more than the limit of {limits.manifest}"
        )
    copy = copies(what.digest.hex)
    if copy is None or len(copy) != what.size or Digest.of(copy) != what.digest:
        copy = read_manifest(what, content.sources(record.locations), budget)
    with remote(f"manifest {what.digest.short}"):
        manifest = parse_manifest(copy)
    found = manifest.artifact_type
    # check 3.21: it is the type of thing that the publisher signed
    if manifest.media_type != what.media_type or found != record.artifact_type:
        raise MalformedError(
            f"manifest {what.digest.short} is {manifest.media_type} "
            f"({found or 'no artifactType'}), signed is {what.media_type} "
            f"({record.artifact_type or 'no artifactType'})"
        )
    return copy


def read_manifest(
    what: Descriptor,
    sources: Sequence[Source],
    budget: Budget,
    *,
    kind: str = "manifest",
) -> bytes:
    """Return exactly the bytes of `what` from the first source that has them.

    A source with other bytes is passed over, and its error is raised when no source
    has the right ones.
    """
    problems: list[SupplyChainError] = []
    for source, turn in turns(sources, budget):
        budget.check()
        try:
            return _read_whole(what, source, budget, turn, kind)
        except (FetchError, VerificationError) as why:
            problems.append(why)
    raise first_of(problems, what)


def _read_whole(
    what: Descriptor, source: Source, budget: Budget, turn: Turn, kind: str
) -> bytes:
    def look(size: int) -> None:
        del size
        budget.check()
        # check 3.23: nobody uses up the time of those who are asked after it
        turn.check(source.url)

    with source.blob(what, tick=look) as stream:
        # check 3.22 (instead: return stream.read()): exact bytes, size and digest
        return read_exact(
            what, stream, subject=f"{kind} {what.digest.short}", tick=budget.spend
        )


def first_of(
    problems: Sequence[SupplyChainError], what: Descriptor
) -> SupplyChainError:
    """Return the error that says most: a wrong byte before a missing one."""
    for one in problems:
        if isinstance(one, VerificationError):
            return one
    if problems:
        return problems[0]
    return FetchError(
        f"there is no source for {what.digest}", url="none", unreachable=True
    )
