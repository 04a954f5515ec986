"""Who must sign what, by when: readable without any key, also after expiry.

Example:
    >>> for duty in repository.status(within=timedelta(days=14)):
    ...     print(duty.role, duty.version, duty.due, duty.action)
    root 1 False None
    timestamp 94 True repo refresh
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One role: what it stands at, and whether somebody must act.

    Args:
        role: the TUF role's name.
        version: None when it is delegated and nothing was signed yet.
        signed: how many distinct keys signed the current version.
        needed: the threshold.
        expires: when the current version expires (UTC).
        issued: `x-issued` of root and timestamp: when they were last signed.
        holders: who holds the role's keys: owners' names, else short key ids.
        keyids: the role's key ids.
        due: it expires within the time that was asked about, or is not as it should.
        action: the command that fulfils the duty, without `margo-supplychain`.
        problem: what is wrong with the role's file, or None.
    """

    role: str
    version: int | None
    signed: int
    needed: int
    expires: datetime | None
    issued: datetime | None
    holders: tuple[str, ...]
    keyids: tuple[str, ...]
    due: bool
    action: str | None
    problem: str | None = None
