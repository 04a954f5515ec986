"""Targets roles as they would be after an edit: copies that may be changed.

A role is read when it is asked for and copied when it is changed, so an edit costs what
it touches and not what the repository holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tuf.api.metadata import DelegatedRole, Delegations, Targets

from margo_supplychain.authoring.roles import delegator_of, kind_of, signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import RefusedError, ThresholdError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import State

NO_VERSION_YET: Final = 1  # python-tuf has no version 0; signing sets the right one


class Changes:
    """The targets roles of one edit.

    Args:
        state: the verified state that it starts from.
        may_renew: says whether a role's keys are at hand.

    `touched` names the roles that must be signed, in order. `renewed` are those that
    begin anew, since what was listed is not signed by their keys.
    """

    def __init__(
        self, state: State, *, may_renew: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._state = state
        self._may_renew = may_renew
        self.renewed: dict[str, str] = {}
        self._drafts: dict[str, Targets] = {}
        self.touched: dict[str, None] = {}

    def view(self, role: str) -> Targets:
        """Return a role as it stands now; not to be changed.

        Raises:
            VerificationError: the role's file is not what its delegator wants.
        """
        draft = self._drafts.get(role)
        if draft is not None:
            return draft
        if not self._state.lists(role) or not self._was_delegated(role):
            # Delegated, and nothing signed yet: it lists nothing. Nor does a name that
            # a thief of snapshot's key put on the list before anybody delegated to it.
            return self._drafts.setdefault(role, Targets(NO_VERSION_YET))
        try:
            return self._state.walk.role(role, delegator_of(role)).signed
        except ThresholdError as why:
            # Somebody's key was taken away when he signed, or a thief of snapshot's key
            # lists what he likes: those whose role it is must be able to go on.
            if kind_of(role) != "application" or not self._may_renew(role):
                raise
            self.renewed[role] = str(why)
            return self._drafts.setdefault(role, Targets(NO_VERSION_YET))

    def change(self, role: str) -> Targets:
        """Return a role to be changed; it will be signed."""
        draft = self._drafts.get(role)
        if draft is None:
            self.view(role)
            draft = self._drafts.get(role) or self._copy(role)
            self._drafts[role] = draft
        self.touched[role] = None
        return draft

    def adopt(self, role: str, signed: Targets) -> None:
        """Take a role as others have signed it: it is not signed here.

        Raises:
            RefusedError: this edit changes it, too.
        """
        if role in self.touched:
            raise RefusedError(
                f"{role} is changed here, and comes signed by others as well",
                hint="do one after the other",
            )
        self._drafts[role] = signed

    def who(self, role: str) -> RoleSigners | None:
        """Return who may sign a role; None if nobody delegates to it."""
        delegator = delegator_of(role)
        if delegator == "root":
            return signers_of(self._state.root.signed, role)
        if delegator != "targets" and self.who(delegator) is None:
            return None
        return signers_of(self.view(delegator), role)

    def require_who(self, role: str) -> RoleSigners:
        """Return who may sign a role.

        Raises:
            RefusedError: nobody delegates to it.
        """
        found = self.who(role)
        if found is None:
            raise RefusedError(
                f"there is no role {role} here",
                hint="`margo-supplychain repo status` lists all roles",
            )
        return found

    def delegate(self, role: str, keys: RoleKeys, paths: Sequence[str]) -> None:
        """Let the delegator of `role` name its keys, in place of those it had."""
        parent = self.change(delegator_of(role))
        if parent.delegations is None or parent.delegations.roles is None:
            parent.delegations = Delegations(keys={}, roles={})
        roles = dict(parent.delegations.roles or {})
        known = dict(parent.delegations.keys)
        roles[role] = DelegatedRole(
            name=role,
            keyids=list(keys.keyids),
            threshold=keys.threshold,
            terminating=True,
            paths=list(paths),
        )
        known.update({key.keyid: key for key in keys.keys})
        used = {keyid for one in roles.values() for keyid in one.keyids}
        parent.delegations = Delegations(
            keys={keyid: key for keyid, key in known.items() if keyid in used},
            roles=roles,
        )

    def _was_delegated(self, role: str) -> bool:
        """Say whether somebody delegated to a role when the edit began."""
        delegator = delegator_of(role)
        if delegator == "root":
            return True
        if not self._state.lists(delegator) or not self._was_delegated(delegator):
            return False
        parent = self._state.walk.role(delegator, delegator_of(delegator)).signed
        return signers_of(parent, role) is not None

    def _copy(self, role: str) -> Targets:
        # Parsed anew, so that nothing of the verified object is shared.
        data = self._state.walk.role(role, delegator_of(role)).file.data
        signed: dict[str, Any] = strict_json.parse(
            data, what=role, limit=LIMITS.targets
        )["signed"]
        return Targets.from_dict(signed)
