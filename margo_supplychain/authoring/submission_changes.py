"""What a submission changes, in plain words: for who signs it, and who takes it in.

Made from the bytes that are signed, compared with what stands; no sentence of whoever
handed it over is among it, but for names and reasons that are signed as well. Nothing
here is believed: what can't be read is said, and never ends the look at the rest.

Example:
    >>> for one in role_changes(submission, prospect):  # doctest: +SKIP
    ...     print(one.role, one.before, one.version, [row.text for row in one.rows])
    acme None 1 ['application acme/pump-monitor: signed by 7551f5475087', …]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

from margo_supplychain import threshold
from margo_supplychain.authoring.attestations import describe as described
from margo_supplychain.authoring.delegator_fields import CUT_OFF, LEFT, known_left
from margo_supplychain.authoring.holders import HOLDERS, NOBODY, known_holders
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.submission_alone import (
    delegated,
    said_alone,
    subject,
    target_alone,
)
from margo_supplychain.errors import FormatError, KeyFormatError, SupplyChainError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.plain_text import plain, quoted
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.release_entry import ReleaseEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Key
    from tuf.api.metadata import DelegatedRole, TargetFile, Targets

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.formats.tuf_metadata import RoleFile

    Kind = Literal["added", "removed", "changed", "said"]

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"
SAID: Final = "said"
_MARKS: Final = {ADDED: "+", REMOVED: "-", CHANGED: "~", SAID: "="}
_MOST: Final = 400  # characters of a list of values
_NONE: Final = "none"


class Row(NamedTuple):
    """One thing that changes.

    Args:
        change: `added`, `removed` or `changed`; `said` where nothing tells whether it
            was so before.
        text: in plain words.
    """

    change: Kind
    text: str

    @property
    def line(self) -> str:
        """The text behind a mark for what happens."""
        return f"{_MARKS[self.change]} {self.text}"


class RoleChange(NamedTuple):
    """What one role of a submission says otherwise than before.

    Args:
        role: its name.
        before: the version that stands; 0 if there is none, None if that is not known.
        version: the new one.
        expires: of the new one.
        rows: what changes; empty if it says the same again.
    """

    role: str
    before: int | None
    version: int
    expires: datetime
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs."""
        return {
            "role": self.role,
            "before": self.before,
            "version": self.version,
            "expires": self.expires,
            "changes": [row._asdict() for row in self.rows],
        }


def role_changes(
    submission: Submission,
    before: Prospect | None,
    *,
    roles: Sequence[RoleFile[Targets]] | None = None,
) -> tuple[RoleChange, ...]:
    """Return what a submission changes, role by role.

    Args:
        submission: unverified.
        before: how the repository stands; None where it is not at hand.
        roles: those of the submission that are new; all by default.

    Raises:
        SupplyChainError: the repository is not what it should be.
    """
    return tuple(
        _Comparing(submission, before, one).result()
        for one in (submission.roles if roles is None else roles)
    )


@final
class _Comparing:
    """One role of a submission beside the one that stands."""

    def __init__(
        self,
        submission: Submission,
        before: Prospect | None,
        file: RoleFile[Targets],
    ) -> None:
        self._files = {str(one.path): one.data for one in submission.targets}
        self._before = before
        self._file = file
        self._new = file.signed
        self._old = None if before is None else before.standing(file.role)
        self._kind: Kind = SAID if before is None else ADDED

    def result(self) -> RoleChange:
        """Return what changes."""
        version = (
            None if self._before is None else self._before.version(self._file.role)
        )
        rows = [*self._gaps(version), *self._delegations(), *self._targets()]
        rows += self._fields()
        if self._before is None:
            rows += [Row(SAID, text) for text in said_alone(self._new)]
        return RoleChange(
            role=self._file.role,
            before=version,
            version=self._file.version,
            expires=self._file.expires,
            rows=tuple(rows),
        )

    def _gaps(self, version: int | None) -> Iterator[Row]:
        if version is not None and self._file.version > version + 1:
            yield Row(
                CHANGED,
                f"follows v{self._file.version - 1}, which is not published: what "
                f"follows is compared with {f'v{version}' if version else 'nothing'}",
            )
        elif version is not None and self._file.version <= version:
            yield Row(CHANGED, f"v{version} is published already")

    # --- delegations -----------------------------------------------------------------

    def _delegations(self) -> Iterator[Row]:
        old, new = delegated(self._old), delegated(self._new)
        for role in sorted(old.keys() - new.keys()):
            yield Row(REMOVED, f"{subject(role)}: devices refuse it from now on")
        for role in sorted(new):
            if role in old:
                yield from self._changed_role(role, old[role], new[role])
            else:
                keys = _keys(self._new, new[role])
                shown = self._named(keys.values())
                of = len(keys)
                yield Row(
                    self._kind,
                    f"{subject(role)}: signed by {shown}"
                    if of == 1
                    else f"{subject(role)}: signed by {new[role].threshold} of {of} "
                    f"keys: {shown}",
                )
        yield from self._left(old, new)

    def _changed_role(
        self, role: str, old: DelegatedRole, new: DelegatedRole
    ) -> Iterator[Row]:
        what = subject(role)
        had, has = _keys(self._old, old), _keys(self._new, new)
        holders = {} if self._old is None else known_holders(self._old)
        for material in sorted(had.keys() - has.keys()):
            shown = _holder(had[material], holders)
            yield Row(
                REMOVED,
                f"key {shown} of {what}: what it signed counts no more",
            )
        for material in sorted(has.keys() - had.keys()):
            shown = self._named([has[material]])
            yield Row(ADDED, f"key {shown} of {what}")
        if (old.threshold, len(had)) != (new.threshold, len(has)):
            fewer = ": fewer decide" if new.threshold < old.threshold else ""
            yield Row(
                CHANGED,
                f"{what}: {new.threshold} of {len(has)} keys sign "
                f"(was {old.threshold} of {len(had)}{fewer})",
            )
        if _rest(old) != _rest(new):
            yield Row(
                CHANGED,
                f"{what}: delegated otherwise: {plain(str(_rest(new)))} (was "
                f"{plain(str(_rest(old)))})",
            )

    def _named(self, keys: Iterable[Key]) -> str:
        """Return keys that come, by their whole ids: another may begin like one."""
        holders = known_holders(self._new)
        return ", ".join(_holder(one, holders, whole=True) for one in keys)

    def _left(
        self, old: Mapping[str, DelegatedRole], new: Mapping[str, DelegatedRole]
    ) -> Iterator[Row]:
        """Yield what is said of keys that left, where no row above says it."""
        known = {} if self._old is None else known_left(self._old)
        said = known_left(self._new)
        if self._before is None:
            return  # those of long ago
        for role in sorted(known.keys() | said.keys()):
            had, has = known.get(role, frozenset()), said.get(role, frozenset())
            for material in sorted(had - has):
                yield Row(CHANGED, f"forgets that a key left {role}: {material[:12]}")
            before = _keys(self._old, old[role]) if role in old else {}
            after = _keys(self._new, new[role]) if role in new else {}
            for material in sorted(has - had - (before.keys() - after.keys())):
                yield Row(CHANGED, f"says that a key left {role}: {material[:12]}")

    # --- target files ----------------------------------------------------------------

    def _targets(self) -> Iterator[Row]:
        old = {} if self._old is None else self._old.targets
        new = self._new.targets
        for path in sorted(old.keys() - new.keys()):
            yield Row(REMOVED, f"{_listed(path)}: not listed any more")
        for path in sorted(new):
            if path not in old:
                yield self._new_target(path, new[path])
            elif old[path].to_dict() != new[path].to_dict():
                yield from self._changed_target(path, old[path], new[path])

    def _new_target(self, path: str, file: TargetFile) -> Row:
        what = _listed(path)
        if _part(path) == "policies":
            words = _policy_words(self._policy(file, path, None))
            found = (f"{name} {text}".strip() for name, text in words.items() if text)
            shown = ", ".join(found)
            more = "" if self._before is not None else target_alone(file, None)
            return Row(self._kind, f"{what}: {shown}{more}")
        entry = _entry(file, path)
        more = "" if self._before is not None else target_alone(file, entry)
        if entry is None:
            return Row(self._kind, f"{what}: {_digest(file)}{more}")
        mark = "" if entry.withdrawn is None else f", {_mark(entry)}"
        proven = self._proven(file, path)
        return Row(self._kind, f"{what}: {entry.artifact}{proven}{mark}{more}")

    def _proven(self, file: TargetFile, path: str) -> str:
        """Return what a new release says that it was made by, as its record has it."""
        data = self._files.get(path, b"")
        if file.hashes.get("sha256") != Digest.of(data).hex:
            return ""
        try:
            record = ReleaseRecord.parse(data)
        except FormatError:
            return ""
        said = [] if record.layout is None else [f"by layout {record.layout}"]
        if record.attestations:
            said.append(f"with {plain(described(record.attestations))}")
        return _bounded("".join(f", {one}" for one in said))

    def _changed_target(
        self, path: str, old: TargetFile, new: TargetFile
    ) -> Iterator[Row]:
        what = _listed(path)
        if _part(path) == "policies":
            yield from self._changed_policy(path, old, new)
            return
        was, entry = _entry(old, path), _entry(new, path)
        if was is None or entry is None:
            yield Row(CHANGED, f"{what}: {_digest(new)} (was {_digest(old)})")
            return
        if was.artifact != entry.artifact:
            yield Row(CHANGED, f"{what}: {entry.artifact} (was {was.artifact})")
        if was.withdrawn != entry.withdrawn:
            if entry.withdrawn is None:
                yield Row(CHANGED, f"{what}: withdrawn no more (was {_mark(was)})")
            else:
                yield Row(CHANGED, f"{what}: {_mark(entry)}")
        if was.summaries != entry.summaries:
            text = f"summaries {_pins(entry)} (was {_pins(was)})"
            yield Row(CHANGED, f"{what}: {text}")
            if old.hashes == new.hashes:
                return
        if (was.artifact, was.withdrawn) == (entry.artifact, entry.withdrawn):
            yield Row(
                CHANGED, f"{what}: its record is {_digest(new)} (was {_digest(old)})"
            )

    def _changed_policy(
        self, path: str, old: TargetFile, new: TargetFile
    ) -> Iterator[Row]:
        was = _policy_words(self._policy(old, path, self._before))
        has = _policy_words(self._policy(new, path, None))
        what = _listed(path)
        rows = [
            f"{what}: {name or 'it'} {has.get(name) or _NONE} (was "
            f"{was.get(name) or _NONE})"
            for name in dict.fromkeys([*has, *was])
            if has.get(name) != was.get(name)
        ]
        # What was cut off above may be all that differs.
        for text in rows or [f"{what}: {_digest(new)} (was {_digest(old)})"]:
            yield Row(CHANGED, text)

    def _policy(
        self, file: TargetFile, path: str, place: Prospect | None
    ) -> PublisherPolicy | str:
        """Return a policy, or why it can't be shown."""
        try:
            if place is not None:
                data = place.tolerant.target(path, file, limit=LIMITS.policy)
            elif path in self._files:
                data = self._files[path]
                if file.hashes.get("sha256") != Digest.of(data).hex:
                    return "what comes along is not what is signed"
            elif self._before is not None:
                data = self._before.tolerant.target(path, file, limit=LIMITS.policy)
            else:
                return f"{_digest(file)}, which does not come along"
            return PublisherPolicy.parse(data)
        except SupplyChainError as why:
            return f"can't be read: {plain(str(why))}"

    # --- what else -------------------------------------------------------------------

    def _fields(self) -> Iterator[Row]:
        yield from self._holders()
        old = {} if self._old is None else self._old.unrecognized_fields
        new = self._new.unrecognized_fields
        for name in sorted(old.keys() | new.keys()):
            if name in {HOLDERS, LEFT} or old.get(name) == new.get(name):
                continue
            if name == CUT_OFF:
                if self._before is None:
                    continue  # said with the files that go with it
                had, has = _names(old.get(name)), _names(new.get(name))
                gone = delegated(self._old).keys() - delegated(self._new).keys()
                for role in sorted(has - had - gone):
                    yield Row(
                        CHANGED,
                        f"{subject(role)}: cut off; devices refuse it until its new "
                        "keys have signed",
                    )
                continue
            yield Row(
                CHANGED if self._before is not None else SAID,
                f"field {plain(name)}: {plain(str(new.get(name, _NONE)))}",
            )

    def _holders(self) -> Iterator[Row]:
        """Yield what is said otherwise of keys that neither leave nor come."""
        if self._old is None:
            return
        had, has = known_holders(self._old), known_holders(self._new)
        stays = _all_keys(self._old) & _all_keys(self._new)
        for keyid in sorted(stays):
            was, now = (one.get(keyid, NOBODY).text for one in (had, has))
            if was != now:
                yield Row(
                    CHANGED,
                    f"key {keyid[:12]}: held by {now or 'nobody named'} (was "
                    f"{was or 'nobody named'})",
                )


def _all_keys(signed: Targets) -> frozenset[str]:
    return frozenset(
        keyid for role in delegated(signed).values() for keyid in role.keyids
    )


def _keys(signed: Targets | None, role: DelegatedRole) -> dict[str, Key]:
    """Return a role's keys by material; one that can't be read by its id."""
    found: dict[str, Key] = {}
    if signed is None or signed.delegations is None:
        return found
    for keyid in role.keyids:
        key = signed.delegations.keys.get(keyid)
        if key is None:
            continue
        try:
            found[threshold.material(key)] = key
        except KeyFormatError:
            found[keyid] = key
    return found


def _rest(role: DelegatedRole) -> dict[str, Any]:
    found: dict[str, Any] = role.to_dict()
    for name in ("keyids", "threshold"):
        found.pop(name, None)
    return found


def _holder(key: Key, holders: Mapping[str, Holder], *, whole: bool = False) -> str:
    shown = key.keyid if whole else key.keyid[:12]
    text = holders.get(key.keyid, NOBODY).text
    return f"{shown} ({text})" if text else shown


def _part(path: str) -> str:
    return path.split("/")[1] if path.count("/") > 1 else ""


def _listed(path: str) -> str:
    """Return what a path is, for people: `release acme/x 1.2.0`, `policy of acme/x`."""
    publisher, _, rest = path.partition("/")
    kind, _, rest = rest.partition("/")
    name, _, last = rest.partition("/")
    if kind == "releases" and last:
        return f"release {plain(f'{publisher}/{name}')} {plain(last.replace('_', '+'))}"
    if kind == "policies" and last:
        return f"policy of {plain(f'{publisher}/{name}')}"
    if kind == "layouts" and last:
        number = last.removesuffix(".json")
        return f"layout {plain(number)} of {plain(f'{publisher}/{name}')}"
    return f"target {plain(path)}"


def _entry(file: TargetFile, path: str) -> ReleaseEntry | None:
    if _part(path) != "releases":
        return None
    try:
        return ReleaseEntry.parse(file.custom, path)
    except FormatError:
        return None


def _pins(entry: ReleaseEntry) -> str:
    return ", ".join(str(one.digest) for one in entry.summaries) or _NONE


def _mark(entry: ReleaseEntry) -> str:
    mark = entry.withdrawn
    if mark is None:
        return "not withdrawn"
    use = "" if mark.use is None else f"; use {mark.use}"
    # In quotes: a reason must not name another release to use.
    return f"withdrawn: {quoted(mark.reason)}{use}"


def _digest(file: TargetFile) -> str:
    return f"sha256 {plain(str(file.hashes.get('sha256', _NONE)))}"


def _policy_words(policy: PublisherPolicy | str) -> dict[str, str]:
    if isinstance(policy, str):
        return {"": policy}
    return {
        "epoch": str(policy.epoch),
        "provenance": policy.provenance,
        "minimum version": str(policy.minimum_version or ""),
        "reinstates": _many(
            f"{one.artifact} up to role v{one.up_to}" for one in policy.reinstated
        ),
        "downgrade to": _many(policy.downgrade_to),
        "layouts": _many(plain(str(one.to_dict())) for one in policy.layouts),
        "attestations": _many(plain(str(one.to_dict())) for one in policy.attestations),
        "keys": _many(plain(str(one.to_dict())) for one in policy.keys),
        "summary": _many(
            plain(str(one.to_dict())) for one in (policy.summary,) if one is not None
        ),
        "revoked functionaries": _many(
            plain(str(one.to_dict())) for one in policy.revoked_functionaries
        ),
    }


def _many(values: Iterable[object]) -> str:
    return _bounded(", ".join(str(one) for one in values))


def _names(value: object) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _bounded(text: str) -> str:
    """Cut a list of what we wrote ourselves; what is left out has a digest."""
    if len(text) <= _MOST:
        return text
    digest = Digest.of(text.encode("utf-8", "surrogatepass")).hex[:16]
    return f"{text[:_MOST]}… ({len(text)} characters, sha256 {digest})"
