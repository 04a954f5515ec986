"""Changing what a root says: one key for another, thresholds, periods, custody.

A draft may be impossible for a moment (a threshold above the keys that are left); the
plan that comes out of it is not.

Example:
    >>> draft = PlanDraft(plan)  # doctest: +SKIP
    >>> draft.replace("4f1a09c2e77b", PlannedKey.of(record, name="holder B"))
    ... # doctest: +SKIP
    >>> draft.plan().root.threshold  # doctest: +SKIP
    2
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Self, final

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import NOBODY, Holder, place_of
from margo_supplychain.authoring.plan import TOP_ROLES, RoleKeys
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.plan import Kind, RootPlan
    from margo_supplychain.signing.public_files import KeyRecord

MIN_ID: Final = 8  # hex digits by which somebody may name a key
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)


def is_key_id(text: str) -> bool:
    """Say whether a text can name a key by its id: 8 hex digits of it or more."""
    return len(text) >= MIN_ID and _HEX.fullmatch(text) is not None


class PlannedKey(NamedTuple):
    """A key that a role shall have, and what is recorded of it."""

    key: Key
    holder: Holder = NOBODY

    @classmethod
    def of(
        cls, record: KeyRecord, *, name: str | None = None, place: str | None = None
    ) -> Self:
        """Return a key with what its record says of its custody and its place.

        Args:
            record: the public key, and what is known of its private half.
            name: who holds it.
            place: where it lies, if the record doesn't say.
        """
        custody = None if record.custody is None else record.custody.text
        place = place_of(record.uri) or place
        return cls(record.key, Holder(name=name, custody=custody, place=place))


@final
class PlanDraft:
    """A plan that is being changed.

    Args:
        plan: where it starts.
    """

    def __init__(self, plan: RootPlan) -> None:
        self._plan = plan
        self._keys = {role: list(plan.top[role].keys) for role in TOP_ROLES}
        self._thresholds = {role: plan.top[role].threshold for role in TOP_ROLES}
        self._periods = dict(plan.periods)
        self._signing = dict(plan.signing)
        self._custody = dict(plan.custody)
        self._holders = dict(plan.holders)

    def replace(self, old: str, new: PlannedKey) -> None:
        """Put a key in the place of another, in every top-level role that has it.

        Raises:
            RefusedError: no such key; or the new one is in such a role already.
        """
        keyid = self.find(old)
        for role, keys in self._keys.items():
            positions = [at for at, key in enumerate(keys) if key.keyid == keyid]
            if positions:
                self._require_absent(role, new.key)
                keys[positions[0]] = new.key
        self.record(new)

    def add(self, role: str, new: PlannedKey) -> None:
        """Give a top-level role one more key; its threshold stays.

        Raises:
            RefusedError: no such role, or it has the key.
        """
        keys = self._of(role)
        self._require_absent(role, new.key)
        keys.append(new.key)
        self.record(new)

    def remove(self, role: str, old: str) -> None:
        """Take a key from a top-level role.

        Raises:
            RefusedError: no such role, or it has no such key.
        """
        keys = self._of(role)
        keyid = self.find(old, roles=[role])
        keys[:] = [key for key in keys if key.keyid != keyid]

    def set_threshold(self, role: str, needed: int) -> None:
        """Say how many keys must sign a top-level role.

        Raises:
            RefusedError: no such role.
        """
        self._of(role)
        self._thresholds[role] = needed

    def set_period(self, kind: Kind, period: timedelta) -> None:
        """Say how long signatures of a kind of role last."""
        self._periods[kind] = period

    def set_signing(self, kind: Kind, before: timedelta) -> None:
        """Say how long before the expiry signing is due."""
        self._signing[kind] = before

    def set_custody(self, role: str, custody: str | None) -> None:
        """Say how a top-level role's keys must be kept; None: anyhow."""
        if custody is None:
            self._custody.pop(role, None)
        else:
            self._custody[role] = custody

    def name(self, old: str, holder: str) -> None:
        """Say who holds a key.

        Raises:
            RefusedError: no such key.
        """
        keyid = self.find(old)
        before = self._holders.get(keyid, NOBODY)
        self._holders[keyid] = replace(before, name=holder)

    def record(self, known: PlannedKey) -> None:
        """Take what is recorded of a key; what is not recorded stays."""
        before = self._holders.get(known.key.keyid, NOBODY)
        self._holders[known.key.keyid] = before.updated(known.holder)

    def find(self, text: str, *, roles: Iterable[str] = TOP_ROLES) -> str:
        """Return the id of the key whose id begins so.

        Raises:
            RefusedError: fewer than 8 hex digits; no such key, or several.
        """
        roles = tuple(roles)
        known = {key.keyid for role in roles for key in self._keys[role]}
        if text in known:
            return text
        where = ", ".join(roles)
        if not is_key_id(text):
            raise RefusedError(
                f"{text!r:.80} is no key id of {where}: expected at least {MIN_ID} hex "
                "digits of one",
                hint="`root show` lists the keys; nothing was changed",
            )
        found = sorted(keyid for keyid in known if keyid.startswith(text))
        if len(found) != 1:
            problem = (
                f"none of {where} has a key {text[:64]}"
                if not found
                else f"{len(found)} keys begin with {text}: {', '.join(found)}"
            )
            raise RefusedError(
                problem, hint="`root show` lists the keys; nothing was changed"
            )
        return found[0]

    def plan(self) -> RootPlan:
        """Return the plan as it is now.

        Raises:
            FormatError: it can't be signed, see `RoleKeys` and `RootPlan`.
        """
        keys = {role: self._role_keys(role) for role in TOP_ROLES}
        used = {keyid for one in keys.values() for keyid in one.keyids}
        if self._plan.publisher_keys is not None:
            used.update(self._plan.publisher_keys.keyids)
        return replace(
            self._plan,
            root=keys["root"],
            targets=keys["targets"],
            snapshot=keys["snapshot"],
            timestamp=keys["timestamp"],
            periods=self._periods,
            signing=self._signing,
            custody=self._custody,
            holders={
                keyid: holder
                for keyid, holder in self._holders.items()
                if keyid in used
            },
        )

    def _role_keys(self, role: str) -> RoleKeys:
        keys, needed = self._keys[role], self._thresholds[role]
        if not 1 <= needed <= len(keys):
            raise RefusedError(
                f"{role} would need {needed} of {len(keys)} keys: nobody could sign it",
                hint=f"lower it as well: --threshold {role}=N; nothing was changed",
            )
        return RoleKeys(keys=tuple(keys), threshold=needed)

    def _of(self, role: str) -> list[Key]:
        found = self._keys.get(role)
        if found is None:
            raise RefusedError(
                f"{role!r:.80} is no role of root, expected one of "
                f"{', '.join(TOP_ROLES)}",
                hint="publishers' and applications' keys: `publisher rotate`",
            )
        return found

    def _require_absent(self, role: str, key: Key) -> None:
        material = threshold.material(key)
        for one in self._keys[role]:
            if threshold.material(one) == material:
                raise RefusedError(
                    f"{role} has key {one.keyid[:12]} already",
                    hint="signatures are counted by key, not by key id; nothing was "
                    "changed",
                )
