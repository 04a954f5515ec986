"""Answers that only the verifier can give.

Each is sealed: final, frozen, compared by identity, and neither built, copied, pickled
nor changed by anybody else. That guards against mistakes, such as installing by a path
that was never checked; hostile code in the same process can get around it.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Never, NoReturn, final

from margo_supplychain.errors import UnknownTargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.storage.content_store import ContentStore
    from margo_supplychain.verify.clock import Freshness
    from margo_supplychain.verify.memory import ReleaseFloor

SEAL: Final = object()
"""Held by the verifier alone: an architecture test checks who imports it."""


def _refuse(kind: type) -> NoReturn:
    raise TypeError(
        f"{kind.__name__} is made only by a Verifier, and does not leave its process"
    )


class _Sealed:
    """What the sealed values have in common."""

    __slots__ = ()

    def __copy__(self) -> Never:
        _refuse(type(self))

    def __deepcopy__(self, memo: object) -> Never:
        _refuse(type(self))

    def __reduce__(self) -> Never:
        _refuse(type(self))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerifiedRelease(_Sealed):
    """A release that passed steps 0 to 5: facts by digest, content not fetched yet.

    Args:
        name, version: which release it is.
        manifest: the artifact: an OCI manifest or index.
        components: `<profile>/<component>` → the component's manifest.
        newest: the newest listed version of the application, inside the pin or not.
        freshness: how current the metadata is known to be.
        report: the evidence.
        record: the signed record itself.
        slot: the slot whose floor it passed.
    """

    name: ReleaseName
    version: Version
    manifest: Descriptor
    components: Mapping[str, Descriptor]
    newest: Version
    freshness: Freshness
    report: Report
    record: ReleaseRecord
    slot: str
    epoch: int
    policy_signers: frozenset[str]
    passed: ReleaseFloor | None
    store: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not SEAL:
            _refuse(type(self))

    def __getstate__(self) -> Never:
        _refuse(type(self))

    def __setstate__(self, state: object) -> Never:
        _refuse(type(self))

    def __init_subclass__(cls, **_: Any) -> None:
        _refuse(VerifiedRelease)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerifiedContent(_Sealed):
    """Every byte of a release, checked and on this device (step 6).

    Args:
        release: what it is the content of.
        digests: every blob and manifest that was fetched.
        platforms: the only ones that were taken of image indexes; None for all.
    """

    release: VerifiedRelease
    digests: Mapping[Digest, Descriptor]
    content: ContentStore
    platforms: frozenset[str] | None
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not SEAL:
            _refuse(type(self))

    def open(self, digest: Digest) -> BinaryIO:
        """Open verified bytes by digest, never by path.

        The whole blob is hashed again before the stream is returned, and the stream
        reads the very file that was hashed.

        Raises:
            UnknownTargetError: not part of this release.
            DigestMismatchError: changed on disk since it was fetched.
        """
        what = self.digests.get(digest)
        if what is None:
            raise UnknownTargetError(
                f"{digest} is not part of {self.release.name} {self.release.version}",
                name=str(digest),
            )
        # check 6.30 (instead: return self.content.open_blob(digest)): check-to-use
        return self.content.open_checked(what)

    def __getstate__(self) -> Never:
        _refuse(type(self))

    def __setstate__(self, state: object) -> Never:
        _refuse(type(self))

    def __init_subclass__(cls, **_: Any) -> None:
        _refuse(VerifiedContent)
