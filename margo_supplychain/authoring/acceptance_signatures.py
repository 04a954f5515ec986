"""Who signed what is submitted: counted before anything else of it is believed.

First the publisher's role, by the keys that `targets` gives it; then each of its
applications', by those that the resulting publisher role does. What was taken already,
byte for byte, is not counted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

from margo_supplychain.authoring.roles import check_role, delegator_of, signers_of
from margo_supplychain.authoring.submission import OPERATOR
from margo_supplychain.errors import FormatError, RefusedError
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.submission_file import Claim
    from margo_supplychain.formats.tuf_metadata import RoleFile


@final
class Signatures:
    """Counts the signatures of one submission, role by role; a `Gate` of reading it.

    Args:
        before: the repository without it.

    Attributes:
        publisher: whose it says it is, once that is known.
        is_early: whether it follows something that is not there yet.
    """

    def __init__(self, before: Prospect) -> None:
        self.publisher: str | None = None
        self.is_early = False
        self._before = before
        self._submitted: dict[str, RoleFile[Targets]] = {}

    def begin(self, claim: Claim) -> None:
        """Refuse names that are not the publisher's, before any role is read.

        Raises:
            RefusedError: another's role, or nobody delegates to the publisher.
        """
        self.publisher = claim.publisher
        self.is_early = any(
            version > self._before.version(role) + 1 for role, version, _ in claim.roles
        )
        for role, _, _ in claim.roles:
            self.check_name(role, claim.publisher)
        if self._before.who(claim.publisher) is None:
            self._refuse_unknown(claim.publisher)

    def require(self, file: RoleFile[Targets]) -> None:
        """Refuse a role that is not signed by a threshold of its keys.

        Roles come in the order of their names, and so a delegator first.

        Raises:
            RefusedError: nobody delegates to it.
            ThresholdError: too few of its keys signed it.
        """
        if self._before.has(file.role, file.version, file.data):
            return
        delegator = self._submitted.get(delegator_of(file.role))
        who = (
            self._before.who(file.role)
            if delegator is None
            # Its own signatures were counted a moment ago.
            else signers_of(delegator.signed, file.role)
        )
        self._count(file, who)
        self._submitted[file.role] = file

    @staticmethod
    def check_name(role: str, publisher: str) -> None:
        """Refuse a role that is not this publisher's.

        Raises:
            RefusedError: it is another's, or no role.
        """
        try:
            owner = check_role(role).partition(".")[0]
        except FormatError as why:
            raise RefusedError(f"{role[:240]!r} is no role: {why}") from why
        if owner != publisher or role in TOP_LEVEL - {OPERATOR}:
            raise RefusedError(f"{role[:240]} is no role of {publisher}")

    def _count(self, file: RoleFile[Targets], who: RoleSigners | None) -> None:
        if who is None:
            self._refuse_unknown(file.role)
        who.status(file).require(file.label)

    def _refuse_unknown(self, role: str) -> NoReturn:
        delegator = delegator_of(role)
        if delegator != "targets" and self._before.who(delegator) is None:
            role, delegator = delegator, "targets"
        raise RefusedError(
            f"{delegator} delegates to no {role}",
            hint="ask the operator to add the publisher"
            if delegator == "targets"
            else "hand in the publisher's role that delegates to it, too",
        )
