"""What can go wrong, as a tree of exceptions.

Knows nothing else of the package. Every class has a stable slug (`code`), the exit
status of the command line (`exit_status`) and a hint that says what to do next; facts
are attributes. `str(error)` is one lower-case line without a full stop.

    SupplyChainError
      FormatError                 a named local file is not what it claims
        EnvelopeFormatError, StatementFormatError, MetadataFormatError,
        ApplicationFormatError, OciFormatError, KeyFormatError
      RefusedError                a change that the repository does not allow
      CommandFailedError          the command of a step did not succeed
      VerificationError           we checked; the answer is no
        MalformedError            remote bytes are not what they claim
        ThresholdError            too few distinct keys signed a role
        RollbackError             older than what is trusted
        ExpiredError              past its expiry (freeze)
        MixAndMatchError          parts of two different states
        DigestMismatchError       other bytes than signed
        LengthMismatchError       another size than signed
        UnknownTargetError        no trusted role names it
        AmbiguousRoleError        more than one role could name it
        NoMatchingVersionError    nothing inside the pin
        WithdrawnError            taken back by its publisher
        ReleaseFloorError         older than what this slot runs
        ProvenanceError           how it was made is not proven
        AttestationError          a statement is missing or about something else
        PolicyError               the device's or the publisher's policy says no
        DeploymentError           differs from the signed release
        UnsafeArchiveError        an archive that must not be extracted
      InconclusiveError           we could not decide; a retry may help
        FetchError, TooLargeError, TooSlowError, ManifestRefusedError
        StorageError, StateLostError
        ClockError, ConflictError
        BudgetError, CancelledError
      IncompleteError             somebody must sign, or a duty is due
      SignerError                 key, token or passphrase

Example:
    >>> try:
    ...     raise RollbackError(
    ...         "timestamp v3 is older than trusted v5",
    ...         role="timestamp", trusted=5, offered=3)
    ... except SupplyChainError as error:
    ...     error.code, error.exit_status, error.facts()["trusted"]
    ('rollback', 3, 5)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from margo_supplychain.formats.reports import Report, Violation


def _rebuild(
    kind: type[SupplyChainError], args: tuple[Any, ...], state: dict[str, Any]
) -> SupplyChainError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SupplyChainError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: one lower-case line naming the object, what was found and what was
            expected.
        hint: what to do next; each class has a default.
    """

    code: ClassVar[str] = "supply-chain"
    exit_status: ClassVar[int] = 1
    default_hint: ClassVar[str | None] = None
    # Where a source is to blame, the default hint: what it does, and what follows.
    blame: ClassVar[str | None] = None

    hint: str | None
    report: Report | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = self._default("the source") if hint is None else hint
        self.report = None

    def name_source(self, source: str) -> None:
        """Let a default hint say which source is to blame."""
        if self.hint == self._default("the source"):
            self.hint = self._default(source)

    def _default(self, source: str) -> str | None:
        return self.default_hint if self.blame is None else f"{source} {self.blame}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only constructors don't unpickle by themselves.
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def facts(self) -> dict[str, Any]:
        """Return the error's facts by name, without hint and report."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("hint", "report") and not name.startswith("_")
        }


# --- bytes of a named local file -----------------------------------------------------


class FormatError(SupplyChainError):
    """The bytes are not what they claim to be.

    Args:
        where: position, such as `margo.yaml:14:7` or `targets.signed.version`.
        problems: every problem found, when there is more than one.
    """

    code = "format"
    exit_status = 2
    default_hint = "correct the file and run the command again"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        problems: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.where = where
        self.problems = tuple(problems)


class EnvelopeFormatError(FormatError):
    """Not a DSSE envelope."""

    code = "envelope-format"


class StatementFormatError(FormatError):
    """Not an in-toto statement."""

    code = "statement-format"


class MetadataFormatError(FormatError):
    """Not TUF metadata, a release record or a publisher policy."""

    code = "metadata-format"


class ApplicationFormatError(FormatError):
    """Not a Margo application description, package or component."""

    code = "application-format"


class OciFormatError(FormatError):
    """Not an OCI manifest, index, layout or descriptor."""

    code = "oci-format"


class KeyFormatError(FormatError):
    """Not a key that this package can use."""

    code = "key-format"


# --- a change that is not allowed ----------------------------------------------------


class RefusedError(SupplyChainError):
    """The author's change is understood, and the repository does not allow it."""

    code = "refused"
    exit_status = 2
    default_hint = "nothing was changed: ask for something that the repository allows"


# --- a step's command that failed ----------------------------------------------------


class CommandFailedError(SupplyChainError):
    """The command that was to be recorded did not succeed: there is nothing to attest.

    No other exit status fits: those say what this package found. Nor is the command's
    own passed on, which could be read as one of them.

    Args:
        status: the command's exit status, negative if a signal ended it; None if it
            was never started, or ended in a way that can't be recorded.
    """

    code = "command-failed"
    exit_status = 1
    default_hint = "nothing was recorded: see what the command printed"

    def __init__(
        self, message: str, *, status: int | None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status


# --- the answer is no ----------------------------------------------------------------


class VerificationError(SupplyChainError):
    """We checked, and the answer is no: do not install, raise an alarm."""

    code = "rejected"
    exit_status = 3
    default_hint = "do not install; what runs may keep running. Report it"


class MalformedError(VerificationError, FormatError):
    """Remote bytes are not what they claim to be."""

    code = "malformed"
    exit_status = 3
    blame = "serves damaged or hostile data; do not install"


class ThresholdError(VerificationError):
    """Too few distinct keys signed a role.

    Args:
        role: the role whose signatures were counted.
        needed: the threshold that its delegator demands.
        valid: how many distinct keys (by material) signed validly.
        missing: key ids of the role without a valid signature.
    """

    code = "threshold"
    default_hint = "the metadata is not signed by the keys this device trusts"

    def __init__(
        self,
        message: str,
        *,
        role: str,
        needed: int,
        valid: int,
        missing: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.role = role
        self.needed = needed
        self.valid = valid
        self.missing = tuple(missing)


class RollbackError(VerificationError):
    """A role is older than the one that is trusted (TUF 5.3.5, 5.4.3, 5.5.5)."""

    code = "rollback"
    blame = (
        "serves an old copy; do not install, report it. Nothing on this device changed"
    )

    def __init__(
        self,
        message: str,
        *,
        role: str,
        trusted: int,
        offered: int,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.role = role
        self.trusted = trusted
        self.offered = offered


class ExpiredError(VerificationError):
    """A role's metadata is past its expiry (TUF 5.3.10, 5.4.4, 5.5.6, 5.6.6)."""

    code = "expired"
    blame = "has not been refreshed, or is frozen; ask the publisher"

    def __init__(
        self,
        message: str,
        *,
        role: str,
        expires: datetime,
        now: datetime,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.role = role
        self.expires = expires
        self.now = now


class MixAndMatchError(VerificationError):
    """Metadata files of two different states were put together."""

    code = "mix-and-match"
    blame = "serves parts of two different states; do not install"

    def __init__(self, message: str, *, role: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.role = role


class DigestMismatchError(VerificationError):
    """The bytes are not the signed ones."""

    code = "digest-mismatch"
    default_hint = "the content was changed after signing; do not install, report it"

    def __init__(
        self,
        message: str,
        *,
        subject: str,
        expected: str,
        found: str,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject
        self.expected = expected
        self.found = found


class LengthMismatchError(VerificationError):
    """The size is not the signed one."""

    code = "length-mismatch"
    default_hint = "the content was changed after signing; do not install, report it"

    def __init__(
        self,
        message: str,
        *,
        subject: str,
        expected: int,
        found: int | None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject
        self.expected = expected
        self.found = found


class UnknownTargetError(VerificationError):
    """No trusted role names it."""

    code = "unknown-target"
    default_hint = "check the name; `margo-supplychain device status` lists publishers"

    def __init__(self, message: str, *, name: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class AmbiguousRoleError(VerificationError):
    """More than the one legitimate role could speak for a name."""

    code = "ambiguous-role"
    default_hint = "the operator must remove the extra delegation; do not install"

    def __init__(
        self,
        message: str,
        *,
        name: str,
        roles: Sequence[str],
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.roles = tuple(roles)


class NoMatchingVersionError(VerificationError):
    """No release inside the pin passes; says why each near one is out.

    Args:
        pin: the pin as text.
        candidates: pairs of version and reason, nearest first, at most ten.
    """

    code = "no-matching-version"
    default_hint = "widen the pin, or wait for a release inside it"

    def __init__(
        self,
        message: str,
        *,
        name: str,
        pin: str,
        candidates: Sequence[tuple[str, str]] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.pin = pin
        self.candidates = tuple(candidates)


class WithdrawnError(VerificationError):
    """The publisher has withdrawn the release."""

    code = "withdrawn"
    default_hint = "do not install it; ask the publisher what to use instead"

    def __init__(
        self,
        message: str,
        *,
        name: str,
        version: str,
        reason: str,
        use: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.version = version
        self.reason = reason
        self.use = use


class ReleaseFloorError(VerificationError):
    """The release is older than what was confirmed to run in this slot."""

    code = "release-floor"
    default_hint = (
        "a downgrade needs the publisher's offline key (policy field downgradeTo)"
    )

    def __init__(
        self,
        message: str,
        *,
        name: str,
        version: str,
        floor: str,
        slot: str,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.version = version
        self.floor = floor
        self.slot = slot


class ProvenanceError(VerificationError):
    """The publisher's policy demands provenance that is missing or wrong.

    Args:
        reason: which way, one word for programs: docs/reference/errors.md lists them.
        step, rule, artifact: where it shows.
        found, wanted: what is there, and what would satisfy it.
        trace: how the whole chain was judged, ready for JSON.
    """

    code = "provenance"
    default_hint = "ask the publisher for a release with provenance"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        step: str | None = None,
        rule: str | None = None,
        artifact: str | None = None,
        found: str | None = None,
        wanted: str | None = None,
        trace: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.step = step
        self.rule = rule
        self.artifact = artifact
        self.found = found
        self.wanted = wanted
        self.trace = trace


class AttestationError(VerificationError):
    """A statement is missing, is about something else, or does not say enough.

    Args:
        reason: which way, one word for programs: docs/reference/errors.md lists them.
        type: the predicate type that it is about.
        found, wanted: what is there, and what would satisfy it.
    """

    code = "attestation"
    default_hint = "ask the publisher for a release with the statements it demands"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        type_: str | None = None,
        found: str | None = None,
        wanted: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.type = type_
        self.found = found
        self.wanted = wanted


class PolicyError(VerificationError):
    """The publisher's or the device's policy says no.

    Args:
        violations: every violation, not the first.
    """

    code = "policy"
    default_hint = (
        "ask the publisher for a release that meets it; the device's owner may change "
        "device.toml"
    )

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.violations = tuple(violations)


class DeploymentError(VerificationError):
    """A deployment or package differs from the signed release.

    Args:
        part: which part differs.
    """

    code = "deployment"

    def __init__(self, message: str, *, part: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.part = part


class UnsafeArchiveError(VerificationError):
    """An archive that would write outside its directory or exhaust the device."""

    code = "unsafe-archive"
    default_hint = "do not extract it; report it to the publisher"

    def __init__(self, message: str, *, member: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.member = member


# --- could not decide ----------------------------------------------------------------


class InconclusiveError(SupplyChainError):
    """We could not decide; what runs may keep running, a retry may help."""

    code = "inconclusive"
    exit_status = 4
    default_hint = "keep what runs and try again later, with back-off"


class FetchError(InconclusiveError):
    """Bytes could not be fetched.

    Args:
        url: what was asked for, without credentials.
        status: HTTP status or None.
        missing: the source answered that there is no such thing (404).
        unreachable: the source as a whole could not be reached.
    """

    code = "fetch"

    def __init__(
        self,
        message: str,
        *,
        url: str,
        status: int | None = None,
        missing: bool = False,
        unreachable: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.url = url
        self.status = status
        self.missing = missing
        self.unreachable = unreachable


class TooLargeError(FetchError):
    """More bytes than the limit for this file (endless data)."""

    code = "too-large"


class TooSlowError(FetchError):
    """The source is slower than the limit (slow retrieval)."""

    code = "too-slow"


class ManifestRefusedError(FetchError):
    """A registry takes no manifest of this form."""

    code = "manifest-refused"
    default_hint = "the registry's settings decide which types of artifact it takes"


class StorageError(InconclusiveError):
    """Disk, permissions or lock.

    Args:
        path: the file or directory concerned.
    """

    code = "storage"
    default_hint = "check space, permissions and other processes, then run it again"

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class StateLostError(InconclusiveError):
    """The device's memory is missing or damaged beyond its spare copy."""

    code = "state-lost"
    default_hint = (
        "initialise the device again from a root that arrives out of band; what the "
        "lost memory barred is no longer known"
    )

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class ClockError(InconclusiveError):
    """The clock can't be trusted for this decision."""

    code = "clock"
    default_hint = "set the clock, then run it again"


class ConflictError(InconclusiveError):
    """Somebody else published in between."""

    code = "conflict"
    default_hint = "run it again: it starts from the newer state"


class BudgetError(InconclusiveError):
    """The call's deadline or byte budget is used up."""

    code = "budget"


class CancelledError(InconclusiveError):
    """The caller cancelled."""

    code = "cancelled"


# --- somebody must act ---------------------------------------------------------------


class IncompleteError(SupplyChainError):
    """More signatures are needed, or a duty is due.

    Args:
        roles: of each role that lacks signatures the ids of all its keys.
    """

    code = "incomplete"
    exit_status = 5
    default_hint = "hand it to the key holders that are named"

    def __init__(
        self,
        message: str,
        *,
        roles: Mapping[str, Sequence[str]] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.roles = {role: tuple(keys) for role, keys in (roles or {}).items()}


class SignerError(SupplyChainError):
    """A key, token or passphrase does not do what is asked of it."""

    code = "signer"
    exit_status = 6
    default_hint = "check the key's URI and passphrase"
