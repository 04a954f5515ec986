"""What a vendor hands in: signed metadata, target files and content, built on a state.

One publisher's roles and nothing else: the publisher's own, and those of its
applications; or the operator's own role `targets`, whose keys may lie apart, too.
Well-formed is all that a `Submission` is; whether the operator takes it
is said by `acceptance.judge`. Its file is one tar whose bytes follow from what it holds
(`submission_file`), so it has the same name in every inbox.

Holders of keys who sit apart sign it one after the other: `sign`, `merge` and `status`
know which keys must sign each role, and the rest of it never changes on the way.

Example:
    >>> with open_inbox("inbox").read(name) as submission:  # doctest: +SKIP
    ...     submission.publisher, [one.label for one in submission.roles]
    ('acme', ['acme.pump-monitor v4'])
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self, final

from margo_supplychain import threshold
from margo_supplychain.authoring.envelopes import check_signatures
from margo_supplychain.authoring.overlay import Staged
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.signatures import (
    Signers,
    with_own_signature,
    with_signatures,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    IncompleteError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.fields import line, moment, unique
from margo_supplychain.formats.names import publisher_name, target_path
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Signer
    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus
    from margo_supplychain.transport.protocols import Source

OPERATOR: Final = "targets"
"""In the place of a publisher: the operator's own role, whose keys are apart."""
MOST_ROLES: Final = 1_000
MOST_TARGETS: Final = 10_000
MOST_BLOBS: Final = 10_000
MAX_FILES: Final = 64 << 20  # bytes of metadata and target files together
MAX_TARGET: Final = max(LIMITS.record, LIMITS.policy)
MAX_CONTENT: Final = 32 << 30  # bytes; more belongs in the vendor's own registry
MAX_BLOB: Final = (8 << 30) - 1  # bytes that a tar header tells in octal
MAX_NOTE: Final = 500
_OWN_REGISTRY: Final = (
    "content goes to a registry of your own: --location oci://HOST/PATH when you build"
)
_OCTETS: Final = "application/octet-stream"


class Base(NamedTuple):
    """The snapshot that a submission was built on.

    Args:
        version: of it.
        sha256: lower-case hex over its file.
    """

    version: int
    sha256: str


class SubmittedTarget(NamedTuple):
    """One target file."""

    path: TargetPath
    data: bytes

    @property
    def what(self) -> Descriptor:
        """Size and digest of it."""
        return Descriptor.of(self.data, _OCTETS)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submission:
    """Signed metadata of one publisher, as it is handed to an operator; unverified.

    Args:
        publisher: whose roles these are; `targets` for the operator's.
        created: when it was made; informs, decides nothing.
        base: the state it was built on.
        roles: the publisher's own or its applications', by name; at least one.
        targets: records and policies that those roles list, by path.
        content: blobs that come with it, by digest.
        note: one line for the operator.
        source: holds the bytes of `content`, unverified.

    Raises:
        MetadataFormatError: another publisher's name, nothing at all, something twice
            or out of order, beyond the limits, or a signature in another form.
    """

    publisher: str
    created: datetime
    base: Base
    roles: tuple[RoleFile[Targets], ...]
    targets: tuple[SubmittedTarget, ...] = ()
    content: tuple[Descriptor, ...] = ()
    note: str | None = None
    source: Source

    def __post_init__(self) -> None:
        if self.publisher != OPERATOR:
            publisher_name(self.publisher)
        moment(self.created, what="submission.created")
        if self.note is not None:
            line(self.note, what="submission.note", limit=MAX_NOTE)
        if type(self.base.version) is not int or self.base.version < 1:
            raise MetadataFormatError(f"submission.base has v{self.base.version!r:.40}")
        Digest("sha256", self.base.sha256)
        self._check_roles()
        self._check_targets()
        self._check_content()
        size = sum(len(one.data) for one in self.roles)
        size += sum(len(one.data) for one in self.targets)
        if size > MAX_FILES:
            raise MetadataFormatError(
                f"submission has {size} bytes of metadata and target files, more than "
                f"the limit of {MAX_FILES}",
                hint="hand it in in parts",
            )

    @property
    def label(self) -> str:
        """What it is, for people: `acme v4, acme.pump-monitor v7`."""
        shown = ", ".join(one.label for one in self.roles[:5])
        more = len(self.roles) - 5
        return f"{shown} and {more} more" if more > 0 else shown

    @property
    def said(self) -> str:
        """Sha256 over all that it says, lower-case hex: no signature changes it.

        Who signs or takes it compares it with others; the file's own changes with
        each signature.
        """
        value = {
            "publisher": self.publisher,
            "created": format_time(self.created),
            "base": self.base._asdict(),
            "roles": [[one.role, Digest.of(one.payload).hex] for one in self.roles],
            "targets": [[one.path, one.what.digest.hex] for one in self.targets],
            "content": [[str(one.digest), one.size] for one in self.content],
            "note": self.note,
        }
        return Digest.of(strict_json.canonical(value)).hex

    def role(self, name: str) -> RoleFile[Targets] | None:
        """Return one of its roles; None if it is not among them."""
        return next((one for one in self.roles if one.role == name), None)

    def staged(self) -> Staged:
        """Return its files as an edit stages them; content is opened when asked for."""
        return Staged(
            blobs={
                what.digest: (what, partial(self.source.blob, what))
                for what in self.content
            },
            targets={one.path: (one.what, one.data) for one in self.targets},
            metadata={file_name(one.role, one.version): one.data for one in self.roles},
        )

    # --- who signs it ----------------------------------------------------------------

    def signers(self, state: State) -> dict[str, RoleSigners]:
        """Return who must sign each of its roles.

        An application's keys are those that the publisher's role in it names, or else
        the one that stands; the publisher's are named by the operator's `targets`.

        Args:
            state: the operator's repository, verified.

        Raises:
            RefusedError: nobody delegates to one of them.
            VerificationError: the publisher's role that stands is none.
        """
        found = {}
        for one in self.roles:
            delegator = delegator_of(one.role)
            own = self.role(delegator)
            if own is None:
                if delegator != "root" and not state.lists(delegator):
                    raise RefusedError(
                        f"nobody can say yet whose keys sign {one.role}: {delegator} "
                        "is not published",
                        hint="it follows what was handed in before: the operator takes "
                        "that in first",
                    )
                trusted = state.trusted(delegator)
                who = signers_of(trusted.signed, one.role)
            else:
                who = signers_of(own.signed, one.role)
            if who is None:
                raise RefusedError(f"{delegator} does not delegate to {one.role}")
            found[one.role] = who
        return found

    def signers_apart(self, root: Root | None) -> dict[str, RoleSigners]:
        """Return who must sign those of its roles whose keys are known without a state.

        An application's are, where the publisher's role comes along, which nobody
        vouches for; those of the operator's `targets` by a root that is trusted.

        Args:
            root: that one, verified.
        """
        found = {}
        for one in self.roles:
            own = self.role(delegator_of(one.role))
            said = own.signed if own is not None else None
            parent = root if one.role == OPERATOR else said
            who = None if parent is None else signers_of(parent, one.role)
            if who is not None:
                found[one.role] = who
        return found

    def status(self, who: Mapping[str, RoleSigners]) -> tuple[ThresholdStatus, ...]:
        """Return for each role which of its keys have signed, and which are missing.

        Args:
            who: see `signers`; roles that it leaves out are not counted.
        """
        return tuple(who[one.role].status(one) for one in self.roles if one.role in who)

    def is_complete(self, who: Mapping[str, RoleSigners]) -> bool:
        """Say whether enough distinct keys have signed every role."""
        return all(one.role in who for one in self.roles) and all(
            one.met for one in self.status(who)
        )

    def require_complete(self, who: Mapping[str, RoleSigners]) -> None:
        """Refuse to hand in what the operator would refuse.

        Raises:
            IncompleteError: names each role and the keys that are missing.
        """
        lacking = [one for one in self.status(who) if not one.met]
        if lacking:
            text = "; ".join(
                f"{one.role} has {len(one.signers)} of {one.needed} signatures "
                f"(missing: {', '.join(key[:12] for key in one.missing[:8])})"
                for one in lacking
            )
            raise IncompleteError(
                f"the submission is not complete: {text}",
                roles={one.role: tuple(who[one.role].keys) for one in lacking},
                hint="send its file to the holders of the missing keys: "
                "margo-supplychain root sign FILE --key KEY",
            )

    def sign(self, signer: Signer, who: Mapping[str, RoleSigners]) -> Self:
        """Return it with this key's signature on each role that the key may sign.

        Signatures that no key of a role made are dropped. Of a role that `who` leaves
        out nobody here knows the keys: it is signed as well, by the key's own id, and
        what others signed of it stays, for somebody who knows them to count.

        Raises:
            RefusedError: the key may sign none of them.
            SignerError: it makes a signature that does not verify.
        """
        known = threshold.material(signer.public_key)
        may = {
            role
            for role, one in who.items()
            if any(threshold.material(key) == known for key in one.keys.values())
        }
        unknown = {one.role for one in self.roles} - who.keys()
        if not unknown | (may & {one.role for one in self.roles}):
            names = ", ".join(one.role for one in self.roles)
            raise RefusedError(
                f"key {signer.public_key.keyid[:12]} may sign none of {names}",
                hint="it is no key of these roles: ask who handed you the file",
            )
        roles = []
        for one in self.roles:
            if one.role in may:
                signers = Signers([signer])
                roles.append(with_signatures(one, who[one.role], signers=signers))
            elif one.role in unknown:
                roles.append(with_own_signature(one, signer))
            else:
                roles.append(one)
        return replace(self, roles=tuple(roles))

    def merge(self, *others: Submission, who: Mapping[str, RoleSigners]) -> Self:
        """Return it with the signatures that others of it have.

        Raises:
            RefusedError: one is not the same but for signatures.
        """
        roles = []
        for one in self.roles:
            theirs = [other.role(one.role) for other in others]
            files = [file for file in theirs if file is not None]
            roles.append(with_signatures(one, who[one.role], files=files))
        for number, other in enumerate(others, start=2):
            if other.unsigned() != self.unsigned():
                raise RefusedError(
                    f"submission {number} says something else than the first, not "
                    "only its signatures differ",
                    hint="somebody made it anew or changed it: compare what each says",
                )
        return replace(self, roles=tuple(roles))

    def unsigned(self) -> tuple[object, ...]:
        """Return all that it says but for signatures: what must not change."""
        return (
            self.publisher,
            self.created,
            self.base,
            tuple((one.role, one.payload) for one in self.roles),
            self.targets,
            self.content,
            self.note,
        )

    # --- parts -----------------------------------------------------------------------

    def _check_roles(self) -> None:
        if not 0 < len(self.roles) <= MOST_ROLES:
            raise MetadataFormatError(
                f"submission has {len(self.roles)} roles, expected 1 to {MOST_ROLES}"
            )
        for one in self.roles:
            if one.role.partition(".")[0] != self.publisher:
                raise MetadataFormatError(
                    f"submission of {self.publisher} has the role {one.role[:240]}"
                )
            if len(one.data) > LIMITS.targets:
                raise MetadataFormatError(
                    f"{one.label} has {len(one.data)} bytes, more than the "
                    f"{LIMITS.targets} that devices read"
                )
            check_signatures(one)
        _in_order([one.role for one in self.roles], what="submission.metadata")

    def _check_targets(self) -> None:
        if len(self.targets) > MOST_TARGETS:
            raise MetadataFormatError(
                f"submission has {len(self.targets)} target files, more than "
                f"{MOST_TARGETS}"
            )
        for one in self.targets:
            owner = target_path(one.path).partition("/")[0]
            if owner != self.publisher != OPERATOR:
                raise MetadataFormatError(
                    f"submission of {self.publisher} has the target {one.path[:240]}"
                )
            if len(one.data) > MAX_TARGET:
                raise MetadataFormatError(
                    f"{one.path} has {len(one.data)} bytes, more than the limit of "
                    f"{MAX_TARGET}"
                )
        _in_order([one.path for one in self.targets], what="submission.targets")

    def _check_content(self) -> None:
        if len(self.content) > MOST_BLOBS:
            raise MetadataFormatError(
                f"submission has {len(self.content)} blobs, more than {MOST_BLOBS}"
            )
        for what in self.content:
            if what.size > MAX_BLOB:
                raise MetadataFormatError(
                    f"{what.digest} has {what.size} bytes, and a submission takes "
                    f"{MAX_BLOB}",
                    hint=_OWN_REGISTRY,
                )
        size = sum(what.size for what in self.content)
        if size > MAX_CONTENT:
            raise MetadataFormatError(
                f"submission has {size} bytes of content, more than {MAX_CONTENT}",
                hint=_OWN_REGISTRY,
            )
        _in_order([str(one.digest) for one in self.content], what="submission.content")


def _in_order(names: Sequence[str], *, what: str) -> None:
    """Refuse names that are not sorted: one value has one form."""
    unique(names, what=what)
    if list(names) != sorted(names):
        raise MetadataFormatError(f"{what} is not in order")
