"""Who must sign what, by when: readable without any key, also after expiry.

A duty begins when the signing period does, which root signs for each kind of role
(`x-signing`), and ends with the expiry. Who holds the keys is signed beside them.

Example:
    >>> for duty in repository.status(within=timedelta(days=14)):
    ...     print(duty.role, duty.version, duty.due, duty.action)
    acme 4 True repo refresh --role acme
    timestamp 94 False None
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from margo_supplychain.authoring import layout_duties
from margo_supplychain.authoring.delegator_fields import is_awaited
from margo_supplychain.authoring.holders import NOBODY, known_holders
from margo_supplychain.authoring.roles import delegator_of, kind_of, signers_of
from margo_supplychain.authoring.root_fields import signed_signing
from margo_supplychain.errors import (
    FetchError,
    SupplyChainError,
    ThresholdError,
    TooLargeError,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.clock import SLACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.workflow import Trusted


class HeldKey(NamedTuple):
    """One key of a role, and what its delegator signs of it.

    Args:
        keyid: its key id.
        holder: who holds it, how well it is kept, and where.
    """

    keyid: str
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One role: what it stands at, and whether somebody must act.

    Args:
        role: the TUF role's name.
        version: None when it is delegated and nothing was signed yet.
        signed: how many distinct keys signed the current version.
        needed: the threshold.
        expires: when the current version expires (UTC).
        begins: since when, or from when on, it is to be signed again; None where root
            signs no signing period for this kind of role.
        issued: `x-issued` of root and timestamp: when they were last signed.
        keys: the role's keys and their holders.
        due: its signing period has begun, it expires within the time that was asked
            about, or it is not as it should; for snapshot and timestamp, which a
            scheduled job signs, also no earlier than half of their time is over.
        action: the command that fulfils the duty, without `margo-supplychain`; None
            when nothing is due, or no command can.
        problem: what is wrong with the role's file, or why no command fulfils the
            duty; or None.
        until: when it must be done, where that is not when the role expires.
    """

    role: str
    version: int | None
    signed: int
    needed: int
    expires: datetime | None
    begins: datetime | None
    issued: datetime | None
    keys: tuple[HeldKey, ...]
    due: bool
    action: str | None
    problem: str | None = None
    until: datetime | None = None

    @property
    def holders(self) -> tuple[str, ...]:
        """Who holds the keys: signed names, else short key ids."""
        named = (one.holder.name or one.keyid[:12] for one in self.keys)
        return tuple(dict.fromkeys(named))

    @property
    def keyids(self) -> tuple[str, ...]:
        """The key ids."""
        return tuple(one.keyid for one in self.keys)


def duties(
    state: State, *, settings: Settings, now: datetime, within: timedelta
) -> tuple[Duty, ...]:
    """Return a duty for each role: offline ones, applications, then online ones."""
    ledger = _Ledger(state, settings, now, within)
    return tuple(ledger.all())


class _Ledger:
    def __init__(
        self, state: State, settings: Settings, now: datetime, within: timedelta
    ) -> None:
        self._state = state
        self._settings = settings
        self._now = now
        self._within = within
        self._signing = signed_signing(state.root.signed)

    def all(self) -> Iterator[Duty]:
        state = self._state
        targets = state.walk.workflow.roles["targets"]
        yield self._duty("root", state.root, state.root)
        yield self._duty("targets", targets, state.root)
        for publisher in _delegated(targets):
            found = self._read(publisher)
            duty = self._duty(publisher, found, targets)
            yield self._with_layouts(duty, found)
            if not isinstance(found, SupplyChainError) and found is not None:
                for role in _delegated(found):
                    yield self._duty(role, self._read(role), found)
        yield self._duty("snapshot", state.snapshot, state.root)
        yield self._duty("timestamp", state.timestamp, state.root)

    def _with_layouts(
        self, duty: Duty, found: Trusted[Any] | SupplyChainError | None
    ) -> Duty:
        """Return a publisher's duty; to extend layouts that end is part of it."""
        if found is None or isinstance(found, SupplyChainError):
            return duty
        until = self._now + self._within
        ends = layout_duties.due(self._state.walk, found, now=self._now, until=until)
        if not ends:
            return duty
        first = ends[0]
        word = "expired" if first.expires <= self._now else "ends"
        problem = f"layout {first.number} of {first.name} {word} "
        problem += format_time(first.expires)
        if len(ends) > 1:
            problem += f", and {len(ends) - 1} more until then"
        if duty.problem is not None:
            problem = f"{duty.problem}; {problem}"
        if duty.due:
            return replace(duty, problem=problem)
        return replace(
            duty,
            due=True,
            action=first.action,
            problem=problem,
            until=first.expires,
        )

    def _read(self, role: str) -> Trusted[Any] | SupplyChainError | None:
        if not self._state.lists(role):
            return None
        try:
            return self._state.walk.role(role, delegator_of(role))
        except SupplyChainError as why:
            return why

    def _duty(
        self,
        role: str,
        found: Trusted[Any] | SupplyChainError | None,
        delegator: Trusted[Any],
    ) -> Duty:
        who = signers_of(delegator.signed, role)
        if who is None:
            raise RuntimeError(f"{role} is not delegated")
        held = _held(who, delegator.signed)
        if found is None:
            # A publisher's is signed with its first submission, an application's with
            # its first release.
            return self._entry(who, held, due=False)
        if isinstance(found, SupplyChainError):
            signed = found.valid if isinstance(found, ThresholdError) else 0
            return self._entry(
                who,
                held,
                due=True,
                version=self._state.version(role),
                signed=signed,
                problem=self._problem(found, role, delegator),
            )
        file = found.file
        duty = self._entry(
            who,
            held,
            due=self._is_due(role, file),
            version=found.version,
            signed=len(found.signers),
            expires=file.expires,
            problem=clock_ahead(file, self._now),
        )
        return replace(duty, issued=file.issued, begins=self._begins(role, file))

    def _problem(
        self, found: SupplyChainError, role: str, delegator: Trusted[Any]
    ) -> str:
        if not isinstance(found, ThresholdError):
            return str(found)
        entry = self._state.walk.workflow.listed(role)
        if not is_awaited(delegator.signed, role, entry):
            return str(found)
        return (
            f"{role} v{entry.version} is not signed by the keys that it was given "
            "since: devices refuse it until they sign"
        )

    def _begins(self, role: str, file: RoleFile[Any]) -> datetime | None:
        period = self._signing.get(kind_of(role))
        return None if period is None else file.expires - period

    def _is_due(self, role: str, file: RoleFile[Any]) -> bool:
        begins = self._begins(role, file)
        if begins is not None and begins <= self._now:
            return True
        within = self._within
        if role in {"snapshot", "timestamp"}:
            # They never last as long as people plan ahead: what counts is whether the
            # scheduled job still runs.
            lasts = self._settings.period(kind_of(role))
            if file.issued is not None:
                lasts = min(lasts, file.expires - file.issued)
            within = min(within, lasts / 2)
        return file.expires <= self._now + within

    def _entry(
        self,
        who: RoleSigners,
        held: tuple[HeldKey, ...],
        *,
        due: bool,
        version: int | None = None,
        signed: int = 0,
        expires: datetime | None = None,
        problem: str | None = None,
    ) -> Duty:
        return Duty(
            role=who.role,
            version=version,
            signed=signed,
            needed=who.threshold,
            expires=expires,
            begins=None,
            issued=None,
            keys=held,
            due=due,
            action=_action(who.role) if due else None,
            problem=problem,
        )


def _held(who: RoleSigners, delegator: Root | Targets) -> tuple[HeldKey, ...]:
    holders = known_holders(delegator)
    return tuple(HeldKey(keyid, holders.get(keyid, NOBODY)) for keyid in who.keys)


def misplaced(found: Iterable[Duty], state: State, source: Source) -> Iterator[Duty]:
    """Yield duties, and say which files devices do not find under their names.

    An author has a copy, or finds the bytes by their digest; a device has neither.

    Args:
        found: what `duties` returned.
        state: what they are made of.
        source: the place as devices see it.

    Raises:
        FetchError: it can't be reached.
    """
    for one in found:
        is_read = one.version is not None and one.signed >= one.needed
        if not is_read or one.role in {"root", "timestamp"}:
            yield one
            continue
        file = state.trusted(one.role).file
        name = file_name(one.role, file.version)
        problem = _misplaced(source, name, file.data)
        if problem is None:
            yield one
        else:
            yield replace(one, due=True, action="repo check --repair", problem=problem)


def _misplaced(source: Source, name: str, data: bytes) -> str | None:
    try:
        if source.metadata(name, limit=len(data)) == data:
            return None
    except TooLargeError:
        pass
    except FetchError as why:
        if why.unreachable:
            raise
        return f"{name} is not there: devices can't refresh"
    return f"{name} is not what was signed: devices can't refresh"


def clock_ahead(file: RoleFile[Any], now: datetime) -> str | None:
    """Say whether a file was signed by a clock that was ahead of `now`, or is not."""
    if file.issued is None or file.issued <= now + SLACK:
        return None
    days = (file.issued - now) / timedelta(days=1)
    return (
        f"{file.label} was signed by a clock {days:.1f} days ahead: until "
        f"{format_time(file.issued)} sign with --time-checked, after a look at a watch"
    )


def _delegated(trusted: Trusted[Any]) -> tuple[str, ...]:
    delegations = trusted.signed.delegations
    if delegations is None or delegations.roles is None:
        return ()
    return tuple(delegations.roles)


def _action(role: str) -> str:
    if role == "root":
        return "root propose"
    if role in {"snapshot", "timestamp"}:
        return "repo refresh"
    return f"repo refresh --role {role}"
