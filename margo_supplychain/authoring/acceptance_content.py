"""The content of what vendors have submitted: taken in before anything names it.

It comes in the submission itself, or lies where its record says, in a registry of the
vendor's; or it is here already. Every byte is checked as devices do, and what they
would refuse is not kept. Content that nothing names in the end is what `repo prune`
removes.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.authoring.allowances import Allowances, Metered
from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.fetched import FetchedContent
from margo_supplychain.authoring.place import Stored
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.work import NewRelease, Work
from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.verify.artifact import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from margo_supplychain.authoring.allowances import Allowance
    from margo_supplychain.authoring.overlay import Opener
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import ContentSources, Source

# Of all releases of one submission, kept until devices have judged it.
MAX_MANIFESTS: Final = 64 << 20
_HINT: Final = (
    "hand it in with its content, or name in the release where it lies: --location "
    "oci://HOST/PATH when you build it"
)


def take_content(
    work: Work,
    submission: Submission,
    records: Sequence[ReleaseRecord],
    *,
    content: ContentSources | None,
    allowances: Allowances | None = None,
) -> Stored:
    """Put the content of new releases where devices will look for it.

    Args:
        work: the edit that will list them; their manifests are staged for it.
        submission: what they came with.
        records: judged, and of one submission.
        content: asks the registries that records name; None to ask nobody.
        allowances: what is left of each vendor's in this run.

    Returns:
        How many blobs were new, and how many were here.

    Raises:
        VerificationError, BudgetError: every device would refuse it; nothing is kept.
        RefusedError: it is nowhere.
        FetchError, StorageError: it can't be read or written.
    """
    if not records:
        return Stored()
    with (allowances or Allowances()).of(submission.publisher) as allowance:
        fetching = _Fetching(work, content, allowance)
        new = [
            NewRelease(record, _release(work, submission, record, fetching))
            for record in records
        ]
    inner = inner_work(work)
    for _, release in new:
        # Not between the trust metadata.
        work.place.located(release)
    inner.new = new
    for _, release in new:
        for part in release.parts():
            what = part.descriptor
            inner.staged.blobs[what.digest] = (what, _opener(release, what))
    stored = work.place.write(inner)
    if not work.place.is_own:
        _stage_manifests(work, new)
    return stored


def inner_work(work: Work) -> Work:
    """Return an edit of the same place that writes content alone."""
    return Work(
        state=work.state,
        place=work.place,
        settings=work.settings,
        signers=work.signers,
        now=work.now,
        signed_at=work.signed_at,
        progress=work.progress,
    )


def _release(
    work: Work,
    submission: Submission,
    record: ReleaseRecord,
    fetching: _Fetching,
) -> Release:
    """Return a record as what can be put somewhere.

    Raises:
        RefusedError: its content is nowhere.
        FetchError: nobody gives it.
    """
    located = tuple(one for one in record.locations if one.startswith(SCHEME))
    _require_home(work, record, located)
    brought = {what.digest for what in submission.content}
    parts = frozenset(one.content.digest for one in record.components)
    source: Source
    if record.artifact.digest in brought:
        source, here = submission.source, parts & brought
    elif located:
        here = fetching.release(record, located)
        source = fetching.content
    else:
        source = work.place.source
        here = _here(source, record)
    # In a registry, what a record says must be so already: with the operator's login
    # nothing is pushed on a vendor's word, least of all to where others' names are.
    is_kept = work.place.is_own
    in_place = frozenset() if is_kept else parts | {record.artifact.digest}
    return Release(
        name=record.name,
        version=record.version,
        artifact=record.artifact,
        artifact_type=record.artifact_type,
        application_version=record.application_version,
        locations=record.locations,
        components=record.components,
        images=record.images,
        closure=record.closure,
        warnings=(),
        elsewhere=parts - here,
        source=source,
        in_place=in_place,
    )


def _require_home(work: Work, record: ReleaseRecord, located: Sequence[str]) -> None:
    """Refuse a release that would have no place where devices look.

    Raises:
        RefusedError: it has none.
    """
    place = work.place
    if place.is_own:
        return
    if not place.url.startswith(SCHEME):
        raise RefusedError(
            f"{place.url} takes no releases of vendors, being neither a directory nor "
            "a registry",
            hint="keep the repository in one of these, and copy it: margo-supplychain "
            "repo push",
        )
    if not located:
        raise RefusedError(
            f"{record.name} {record.version} names no registry with its content, and "
            f"{place.url} takes none",
            hint=_HINT,
        )


def _here(source: Source, record: ReleaseRecord) -> frozenset[Digest]:
    """Return the components that are in the repository already, with the artifact.

    Raises:
        RefusedError: that is not.
    """
    try:
        read_checked(source, record.artifact)
    except FetchError as why:
        if not why.missing:
            raise
        raise RefusedError(
            f"the content of {record.name} {record.version} neither comes with it, nor "
            "lies in a registry that it names",
            hint=_HINT,
        ) from why
    found = set()
    for one in record.components:
        try:
            read_checked(source, one.content)
        except FetchError as why:
            if not why.missing:
                raise
            continue
        found.add(one.content.digest)
    return frozenset(found)


class _Fetching:
    """Content that is fetched from where records say, to be looked at.

    Args:
        work: the edit; told what is fetched, and warned of what is not there.
        sources: asks registries.
        allowance: of the vendor, for all of one submission.
    """

    def __init__(
        self, work: Work, sources: ContentSources | None, allowance: Allowance
    ) -> None:
        self._work = work
        self._sources = sources
        self._allowance = allowance

    @cached_property
    def content(self) -> FetchedContent:
        """What was fetched."""
        return FetchedContent()

    def release(
        self, record: ReleaseRecord, located: Sequence[str]
    ) -> frozenset[Digest]:
        """Fetch an artifact, and those of its components that are there.

        Raises:
            FetchError, VerificationError: nobody has the artifact as it is signed.
            BudgetError: it takes too long.
        """
        shown = f"{record.name} {record.version}"
        self._fetch(record.artifact, located, shown)
        found = set()
        for one in record.components:
            try:
                self._fetch(one.content, (one.repository,), one.name)
            except FetchError as why:
                self._work.warnings.append(
                    f"component {one.name} of {shown} is left where it is: {why}"
                )
            else:
                found.add(one.content.digest)
        return frozenset(found)

    def _fetch(self, what: Descriptor, locations: Sequence[str], shown: str) -> None:
        if self._sources is None:
            raise FetchError(
                f"nobody is asked for {shown}, which lies in {locations[0]}",
                url=locations[0],
                unreachable=True,
            )
        problems: list[SupplyChainError] = []
        for source in self._sources.sources(locations):
            try:
                metered = Metered(source, self._allowance)
                self.content.fetch(metered, what, shown=shown, progress=self._tell)
            except (FetchError, VerificationError, OciFormatError) as why:
                problems.append(why)
            else:
                return
        raise first_of(problems, what)

    def _tell(self, what: str, done: int, total: int) -> None:
        # A vendor's registry must not keep everybody else waiting.
        self._allowance.check()
        if self._work.progress is not None:
            self._work.progress(what, done, total)


def _stage_manifests(work: Work, new: Sequence[NewRelease]) -> None:
    """Keep each artifact's manifest for the devices that judge the result.

    Raises:
        RefusedError: together they are too large.
    """
    total = 0
    for record, release in new:
        total += record.artifact.size
        if total > MAX_MANIFESTS:
            raise RefusedError(
                f"the manifests of its {len(new)} releases have more than "
                f"{MAX_MANIFESTS} bytes",
                hint="hand it in in parts",
            )
        data = read_checked(release.source, record.artifact)
        work.staged.blobs[record.artifact.digest] = (record.artifact, _kept(data))


def _kept(data: bytes) -> Opener:
    @contextmanager
    def open_it() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return open_it


def _opener(release: Release, what: Descriptor) -> Opener:
    def open_it() -> AbstractContextManager[BinaryIO]:
        return release.open(what)

    return open_it
