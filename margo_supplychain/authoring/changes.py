"""Targets roles as they would be after an edit: copies that may be changed.

A role is read when it is asked for and copied when it is changed, so an edit costs what
it touches and not what the repository holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tuf.api.metadata import DelegatedRole, Delegations, Targets

from margo_supplychain.authoring.delegator_fields import (
    CutOff,
    cut_off,
    cut_off_at,
    forget_cut_off,
    forget_left,
    note_cut_off,
    note_left,
)
from margo_supplychain.authoring.delegator_room import require_few, require_light
from margo_supplychain.authoring.holders import (
    HOLDERS,
    NOBODY,
    holders_field,
    holders_of,
)
from margo_supplychain.authoring.roles import (
    application_of,
    delegator_of,
    kind_of,
    signers_of,
)
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    RefusedError,
    ThresholdError,
    VerificationError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.tuf_metadata import parse_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.tuf_metadata import RoleFile

NO_VERSION_YET: Final = 1  # python-tuf has no version 0; signing sets the right one


class Changes:
    """The targets roles of one edit.

    Args:
        state: the verified state that it starts from.
        may_renew: says whether keys of a role are at hand.
        named: returns the file of a role that a list names, from wherever it is.

    `touched` names the roles that must be signed, in order. `renewed` has those that
    do not go on from what the snapshot lists, since that is not signed by their keys,
    and what their holder should know; `cut_off` those that this edit cuts off.
    `forgotten` has, by delegator and role, how many keys that left it are said no more.
    """

    def __init__(
        self,
        state: State,
        *,
        may_renew: Callable[[str], bool] = lambda _: False,
        named: Callable[[str, MetaFile], bytes] | None = None,
    ) -> None:
        self._state = state
        self._may_renew = may_renew
        self._named = named
        self.renewed: dict[str, str] = {}
        self.cut_off: set[str] = set()
        self.forgotten: dict[tuple[str, str], int] = {}
        self._drafts: dict[str, Targets] = {}
        self._begun: dict[str, RoleFile[Targets] | None] = {}
        self.touched: dict[str, None] = {}

    def view(self, role: str) -> Targets:
        """Return a role as it stands now; not to be changed.

        Raises:
            VerificationError: the role's file is not what its delegator wants.
        """
        draft = self._drafts.get(role)
        if draft is not None:
            return draft
        file = self.begun(role)
        if file is None:
            return self._drafts.setdefault(role, Targets(NO_VERSION_YET))
        return file.signed

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

    # --- who may sign ----------------------------------------------------------------

    def delegate(
        self,
        role: str,
        keys: RoleKeys,
        paths: Sequence[str],
        holders: Mapping[str, Holder],
    ) -> None:
        """Let the delegator of `role` name its keys, in place of those it had.

        What it says of their holders stays where `holders` says nothing else. The keys
        that leave are noted.
        """
        parent = self.change(delegator_of(role))
        self._note_left(parent, role, keys.materials())
        forget_cut_off(parent, role)
        if parent.delegations is None or parent.delegations.roles is None:
            parent.delegations = Delegations(keys={}, roles={})
        roles = dict(parent.delegations.roles or {})
        roles[role] = DelegatedRole(
            name=role,
            keyids=list(keys.keyids),
            threshold=keys.threshold,
            terminating=True,
            paths=list(paths),
        )
        known = dict(parent.delegations.keys)
        known.update({key.keyid: key for key in keys.keys})
        parent.delegations.keys = known
        _set_roles(parent, roles)
        self.name_holders(role, holders)

    def name_holders(self, role: str, holders: Mapping[str, Holder]) -> bool:
        """Let the delegator of `role` say who holds its keys; say if that is new."""
        delegator = delegator_of(role)
        who, before = self.require_who(role), holders_of(self.view(delegator))
        given = {
            keyid: before.get(keyid, NOBODY).updated(one)
            for keyid, one in holders.items()
            if keyid in who.keys
        }
        if all(before.get(keyid, NOBODY) == one for keyid, one in given.items()):
            return False
        parent = self.change(delegator)
        parent.unrecognized_fields.update(holders_field({**before, **given}))
        return True

    def end(self, role: str, below: Mapping[str, Iterable[str]]) -> None:
        """Let the delegator of `role` delegate to it no more.

        Of an application it keeps what was listed last: whoever adds one of that name
        goes on from there, so neither releases nor withdrawals are forgotten.

        Args:
            role: which one; what this edit changed in it is forgotten.
            below: keys, by material, of the roles that it delegated to.
        """
        is_kept = kind_of(role) == "application" and self._state.lists(role)
        last = self._last_readable(role) if is_kept else None
        parent = self.change(delegator_of(role))
        self._note_left(parent, role, frozenset())
        self._note(parent, delegator_of(role), below)
        forget_cut_off(parent, role)
        if kind_of(role) == "application" and not is_kept:
            # Nobody ever saw anything of it: no old file could be believed again, and
            # who adds and removes applications must not fill what every device reads.
            forget_left(parent, role)
            _drop_targets(parent, role)
        if is_kept:
            listed = self._state.snapshot.signed.meta[f"{role}.json"]
            note_cut_off(parent, role, CutOff(listed, last))
        roles = {} if parent.delegations is None else parent.delegations.roles or {}
        _set_roles(parent, {name: one for name, one in roles.items() if name != role})
        known = {*self._drafts, *self._begun, *below}
        for one in (role, *(name for name in known if name.startswith(f"{role}."))):
            self._drafts.pop(one, None)
            self._begun[one] = None
            self.touched.pop(one, None)
        if last is not None:
            self._begun[role] = self._again(role, last)

    def note_cut_off(self, role: str, last: MetaFile | None) -> None:
        """Let the delegator of `role` say that its keys have not signed yet.

        Args:
            role: which one.
            last: the file that its holder goes on from; None if it begins anew.
        """
        self.cut_off.add(role)
        listed = self._state.snapshot.signed.meta[f"{role}.json"]
        note_cut_off(self.change(delegator_of(role)), role, CutOff(listed, last))

    def is_refused(self, role: str) -> bool:
        """Say whether devices refuse a role until its holder has signed it."""
        is_cut_off = role in self.cut_off or role in self.renewed
        return is_cut_off and role not in self.touched

    def last_good(self, role: str) -> MetaFile | None:
        """Return the last file that keys signed which the role had then, if known."""
        try:
            file = self.begun(role)
        except ThresholdError:
            return None
        if file is None or role in self.renewed:
            return cut_off_at(self.view(delegator_of(role)), role)
        return self._state.snapshot.signed.meta[f"{role}.json"]

    def _last_readable(self, role: str) -> MetaFile | None:
        """Return the same; None also where it is damaged: damage keeps no role here."""
        try:
            return self.last_good(role)
        except (VerificationError, FetchError):
            return None

    def is_signed_by(self, who: RoleSigners) -> bool:
        """Say whether the file that the snapshot lists is signed by enough of them."""
        entry = self._state.snapshot.signed.meta.get(f"{who.role}.json")
        if entry is None:
            return False
        return signed_by(self._read(who.role, entry), who) is not None

    def require_room(self) -> None:
        """Refuse publishers' roles that `repo accept` would: one rule for all doors.

        Raises:
            RefusedError: one holds more than leaves room for what must be possible.
        """
        listed = [one.removesuffix(".json") for one in self._state.snapshot.signed.meta]
        for role in self.touched:
            if kind_of(role) == "publisher":
                begun, new = self.begun(role), self.view(role)
                old = None if begun is None else begun.signed
                require_few(role, role, old, new, listed=listed)
                require_light(role, old, new)

    def _note_left(self, parent: Targets, role: str, staying: frozenset[str]) -> None:
        before = signers_of(parent, role)
        if before is None:
            return
        left = before.materials() - staying
        # Of a role that is removed even an empty list says that it was one.
        if left or not staying:
            self._note(parent, delegator_of(role), {role: sorted(left)})

    def _note(
        self, parent: Targets, delegator: str, left: Mapping[str, Iterable[str]]
    ) -> None:
        for role, count in note_left(parent, left).items():
            known = self.forgotten.get((delegator, role), 0)
            self.forgotten[delegator, role] = known + count

    # --- as the edit found it --------------------------------------------------------

    def begun(self, role: str) -> RoleFile[Targets] | None:
        """Return a role's file as the edit found it, or what its holder goes on from.

        None for a role that begins: nothing of it was signed, or it is a name that a
        thief of snapshot's key put on the list before anybody delegated to it.

        Raises:
            VerificationError: the file is not what its delegator wants.
        """
        if role not in self._begun:
            self._begun[role] = self._find(role)
        return self._begun[role]

    def _find(self, role: str) -> RoleFile[Targets] | None:
        if not self._state.lists(role):
            return None
        delegator = delegator_of(role)
        if delegator == "root":
            return self._state.walk.role(role, delegator).file
        parent = self.begun(delegator)
        if parent is None:
            return None
        who = signers_of(parent.signed, role)
        if who is None:
            last = cut_off_at(parent.signed, role)
            return None if last is None else self._again(role, last)
        try:
            if delegator in self.renewed:
                # Its delegator is not signed yet, so no device could judge it.
                return self._judged(role, who)
            return self._state.walk.role(role, delegator).file
        except ThresholdError as why:
            return self._go_on(role, parent.signed, why)

    def _judged(self, role: str, who: RoleSigners) -> RoleFile[Targets]:
        entry = self._state.snapshot.signed.meta[f"{role}.json"]
        file = signed_by(self._read(role, entry), who)
        if file is None:
            raise ThresholdError(
                f"{role} v{entry.version} is not signed by its own keys",
                role=role,
                needed=who.threshold,
                valid=0,
            )
        return file

    def _go_on(
        self, role: str, delegator: Targets, why: ThresholdError
    ) -> RoleFile[Targets] | None:
        """Return what the holder of new keys goes on from.

        Somebody's key was taken away before the new one signed, or when he signed; or
        a thief of snapshot's key lists what he likes: those whose role it is must be
        able to go on.
        """
        known = cut_off(delegator, role)
        if known is None:
            if kind_of(role) != "application" or not self._may_renew(role):
                raise why
            self.renewed[role] = (
                f"{role} begins anew, without what was listed: {why}; publish again "
                "what is missing"
            )
            return None
        last = known.last
        if last is None:
            self.renewed[role] = f"{role} begins anew, without what it listed once"
            return None
        file = parse_targets(self._read(role, last), role=role, limit=LIMITS.targets)
        self.renewed[role] = (
            f"{role} goes on from v{last.version}, the last file by the keys that were "
            "cut off: whoever has them may have signed it, so look through what it "
            "lists"
        )
        return file

    def _again(self, role: str, last: MetaFile) -> RoleFile[Targets]:
        """Return what an application that was removed goes on from."""
        file = parse_targets(self._read(role, last), role=role, limit=LIMITS.targets)
        self.renewed[role] = (
            f"{role} goes on from v{last.version}, the last file before it was "
            "removed: look through what it lists"
        )
        return file

    def _read(self, role: str, entry: MetaFile) -> bytes:
        """Return exactly the file that a signed entry names."""
        if self._named is None:
            raise RefusedError(f"{role} can't be read here")
        data = self._named(role, entry)
        expected = Digest("sha256", (entry.hashes or {}).get("sha256", ""))
        if Digest.of(data) != expected:
            raise DigestMismatchError(
                f"{role} v{entry.version} is {Digest.of(data).short}, signed is "
                f"{expected.short}",
                subject=role,
                expected=str(expected),
                found=str(Digest.of(data)),
            )
        return data

    def _copy(self, role: str) -> Targets:
        # Parsed anew, so that nothing of the verified object is shared.
        file = self.begun(role)
        if file is None:
            return Targets(NO_VERSION_YET)
        signed: dict[str, Any] = strict_json.parse(
            file.data, what=role, limit=LIMITS.targets
        )["signed"]
        return Targets.from_dict(signed)


def _drop_targets(parent: Targets, role: str) -> None:
    """Let a publisher list no policy and no layout of an application any more."""
    name = application_of(role)
    start = tuple(
        f"{name.publisher}/{kind}/{name.name}/" for kind in ("policies", "layouts")
    )
    parent.targets = {
        path: one for path, one in parent.targets.items() if not path.startswith(start)
    }


def _set_roles(parent: Targets, roles: dict[str, DelegatedRole]) -> None:
    """Let a role delegate to these, and define no more keys than they have."""
    used = {keyid for one in roles.values() for keyid in one.keyids}
    known = {} if parent.delegations is None else parent.delegations.keys
    keys = {keyid: key for keyid, key in known.items() if keyid in used}
    # As before the first: not every client likes a list of nobody.
    parent.delegations = Delegations(keys=keys, roles=roles) if roles else None
    holders = holders_of(parent)
    if holders:
        parent.unrecognized_fields.pop(HOLDERS)
        parent.unrecognized_fields.update(holders_field(holders, used))
