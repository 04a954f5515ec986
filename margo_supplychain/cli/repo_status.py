"""`repo status`: every role, when it expires, and who must act.

Who must act is decided by `authoring.duties`; here it becomes a table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.cli import describe
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.output import Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.cli.author import Author


class Place(NamedTuple):
    """What this place says of who works here.

    Args:
        publisher: whose roles are signed here; None if that is not said.
        inbox: where a vendor hands in; None for an operator.
        periods: how long the roles of each kind last; None in a repository of one.
    """

    publisher: str | None
    inbox: str | None
    periods: Settings | None

    @classmethod
    def of(cls, author: Author, periods: Settings) -> Place:
        """Return what the settings say.

        Args:
            author: whose settings they are.
            periods: as verified metadata has them.
        """
        publisher, inbox, online = (
            author.invocation.settings.find(name)
            for name in ("publisher", "inbox", "online-key")
        )
        return cls(
            publisher=publisher.values[0] if publisher else None,
            inbox=inbox.values[0] if inbox and not online else None,
            periods=periods if periods.profile == "standard" else None,
        )

    def fitted(self, duty: Duty) -> tuple[Duty, str]:
        """Return a duty with the command that fulfils it, and where that is run."""
        from margo_supplychain.authoring.roles import kind_of

        if duty.action is None or self.periods is None:
            return duty, ""
        publisher = duty.role.partition(".")[0]
        if kind_of(duty.role) not in {"publisher", "application"}:
            return (duty, "") if self.inbox is None else (duty, "at the operator: ")
        if self.publisher in {None, publisher} and self.inbox is None:
            return duty, ""
        if self.publisher == publisher:
            return _handed_in(duty, self.inbox or "INBOX"), ""
        # Its keys lie elsewhere, and nobody else can sign for it.
        return _handed_in(duty, "INBOX"), f"at {publisher}: "

    def always(self, duties: Sequence[Duty], within: timedelta) -> list[str]:
        """Return what is due whenever somebody asks about so long a time."""
        from margo_supplychain.authoring.roles import kind_of

        found: dict[int, list[str]] = {}
        for one in duties:
            if one.due and one.role not in _ONLINE and self.periods is not None:
                period = self.periods.period(kind_of(one.role))
                if period <= within:
                    found.setdefault(period.days, []).append(one.role)
        return [
            f"always due within {describe.span(within)}, since they are signed for "
            f"{days} days: {', '.join(roles[:5])}"
            + (f" and {len(roles) - 5} more" if len(roles) > 5 else "")
            for days, roles in found.items()
        ]


def _handed_in(duty: Duty, inbox: str) -> Duty:
    action = f"{duty.action} --submit {inbox}"
    if duty.needed > 1:
        action += " --out FILE"
    return replace(duty, action=action)


_NOWHERE: Final = Place(publisher=None, inbox=None, periods=None)
_ONLINE: Final = ("snapshot", "timestamp")
_MANY: Final = 20  # roles on one screen; JSON has all
_HEADER: Final = ("role", "version", "signed", "expires", "who must act")


def describe_status(
    repository: Repository,
    duties: Sequence[Duty],
    *,
    within: timedelta,
    now: datetime,
    place: Place = _NOWHERE,
) -> Result:
    """Return the table of roles; exit status 5 when somebody must act.

    Args:
        repository: whose roles they are.
        duties: of `Repository.status`.
        within: what it was asked for.
        now: for distances.
        place: who works here.
    """
    fitted = [place.fitted(one) for one in duties]
    duties = [one for one, _ in fitted]
    where = {one.role: at for one, at in fitted}
    due = {one.role for one in duties if one.due}
    problems = [one for one in duties if one.problem is not None]
    root = next(one for one in duties if one.role == "root")
    owner = repository.publisher or ", ".join(_publishers(duties)) or "no publisher yet"
    verdict = describe.counted(len(problems), "problem") if problems else "ok"
    # Both are one duty: one command renews them.
    number = len(due - {"snapshot"} if "timestamp" in due else due)
    counted = describe.counted(number, "duty", "duties") if number else "no duty"
    facts = (
        owner,
        f"profile {repository.profile}",
        f"root v{root.version}",
        f"checked just now: {verdict}",
    )
    lines = [
        f"{repository.url}  {' · '.join(facts)}",
        *describe.table([_HEADER, *_rows(duties, now, where)]),
        f"{counted} within {describe.span(within)}",
        *place.always(duties, within),
    ]
    return Result(
        data={
            "repository": repository.url,
            "profile": repository.profile,
            "withinSeconds": int(within.total_seconds()),
            "duties": number,
            "roles": [duty_data(one) for one in duties],
        },
        lines=lines,
        exit_status=5 if due else 0,
    )


def _publishers(duties: Sequence[Duty]) -> list[str]:
    top = {"root", "targets", *_ONLINE}
    return [one.role for one in duties if one.role not in top and "." not in one.role]


def _rows(
    duties: Sequence[Duty], now: datetime, where: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    quiet = [one for one in duties if "." in one.role and not one.due]
    hidden = {one.role for one in quiet} if len(duties) > _MANY else set()
    for one in duties:
        if one.role not in hidden and one.role not in _ONLINE:
            yield _row([one], now, where)
    if hidden:
        first = min((one.expires for one in quiet if one.expires), default=None)
        yield (
            describe.counted(len(hidden), "application"),
            "",
            "",
            _date(first),
            "none within this time",
        )
    online = [one for one in duties if one.role in _ONLINE]
    same = len({(one.signed, one.needed) for one in online}) == 1
    for part in [online] if same else [[one] for one in online]:
        yield _row(part, now, where)


def _row(
    duties: Sequence[Duty], now: datetime, where: Mapping[str, str]
) -> tuple[str, ...]:
    one = duties[0]
    times = [duty.expires for duty in duties if duty.expires is not None]
    return (
        ", ".join(duty.role for duty in duties),
        ", ".join(
            "-" if duty.version is None else str(duty.version) for duty in duties
        ),
        f"{one.signed} of {one.needed}",
        _date(min(times, default=None)),
        _who(duties, now, where),
    )


def _who(duties: Sequence[Duty], now: datetime, where: Mapping[str, str]) -> str:
    acting = [one for one in duties if one.due]
    problems = [one.problem for one in acting or duties if one.problem is not None]
    if not acting and problems:
        return "; ".join(problems)
    if not acting:
        if duties[0].role not in _ONLINE:
            return awaited(duties[0]) if duties[0].version is None else ""
        issued = next((one.issued for one in duties if one.issued is not None), None)
        if issued is None:
            return "scheduled refresh"
        return f"scheduled refresh, last ran {describe.distance(issued, at=now)}"
    one = min(acting, key=lambda duty: duty.expires or now)
    parts = [who(one)]
    end = one.until or one.expires
    if end is not None:
        gone = end <= now
        far = describe.distance(end, at=now)
        parts.append(f"expired {far}" if gone else far)
    text = ", ".join(parts)
    if one.action is not None:
        text += f": {where.get(one.role, '')}{PROGRAM} {one.action}"
    return f"{text} ({'; '.join(problems)})" if problems else text


def awaited(duty: Duty) -> str:
    """Say when a role is signed for the first time."""
    first = "release" if "." in duty.role else "submission"
    return f"signed with its first {first}"


def who(duty: Duty) -> str:
    """Return who signs a role: `A`, `A or B`, `A and B`, `2 of A, B, C`."""
    holders = duty.holders
    if len(holders) == 1:
        return holders[0]
    if duty.needed == len(duty.keyids):
        return f"{', '.join(holders[:-1])} and {holders[-1]}"
    if duty.needed == 1:
        return f"{', '.join(holders[:-1])} or {holders[-1]}"
    return f"{duty.needed} of {', '.join(holders)}"


def _date(when: datetime | None) -> str:
    return "-" if when is None else describe.date(when)


def duty_data(duty: Duty) -> dict[str, Any]:
    """Return a role and its duty, for JSON."""
    return {
        "role": duty.role,
        "version": duty.version,
        "signed": duty.signed,
        "needed": duty.needed,
        "expires": duty.expires,
        "begins": duty.begins,
        "issued": duty.issued,
        "holders": list(duty.holders),
        "keyIds": list(duty.keyids),
        "due": duty.due,
        "action": duty.action,
        "problem": duty.problem,
    }
