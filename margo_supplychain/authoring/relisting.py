"""What a new snapshot lists, where the keys that signed the old list can't be believed.

The thief of snapshot's keys lists what he likes: roles that nobody delegates to, by the
ten thousand, or files that are none. So each role is listed as its delegator goes:

    delegated to now      its newest file that those keys signed: listed once, or lying
                          there
    other keys before     what was listed, if keys signed it that the delegator named
                          then: devices refuse it until its holder signs again, and its
                          version goes on counting
    removed               likewise: who comes back under that name goes on counting
    never                 nothing

Keys that a delegator named before are those of its older versions, signed by the keys
that were its own then, as far as these lie there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from margo_supplychain.authoring.evidence import Evidence, require_who
from margo_supplychain.authoring.lying import SANE
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import check_role, delegator_of, signers_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tuf.api.metadata import MetaFile, Targets

    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile

_MOST_NAMED: Final = 3  # names of nobody that are said aloud


@final
class Relisting:
    """Finds what to list of each role.

    Args:
        evidence: what is left of what rightful keys signed.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._tops = [require_who(one, "targets") for one in evidence.signing]
        self._candidates = _candidates(evidence)
        self._delegated: set[str] = set()
        self._once: dict[str, dict[str, list[RoleSigners]]] = {}

    def listed(self) -> dict[str, MetaFile]:
        """Return each role in its newest good file, who delegates first."""
        meta: dict[str, MetaFile] = {}
        waiting: list[tuple[str, Sequence[RoleSigners]]] = [("targets", self._tops)]
        while waiting:
            role, who = waiting.pop(0)
            self._delegated.add(role)
            entry = self._best(role, who) or self._of_before(role)
            if entry is None:
                continue
            meta[f"{role}.json"] = entry
            waiting += self._below(role, self._good(role, entry, who))
        for name in self._candidates:
            role = name.removesuffix(".json")
            entry = None if name in meta else self._of_before(role)
            if entry is not None:
                meta[name] = entry
        return meta

    def newer(self, meta: Mapping[str, MetaFile]) -> Iterator[str]:
        """Say which good files lie there that are newer than what a list names."""
        # Whoever publishes in a directory holds its lock.
        is_own = self._evidence.start.place.is_own
        perhaps = "" if is_own else " (perhaps it never was: somebody was faster)"
        waiting: list[tuple[str, Sequence[RoleSigners]]] = [("targets", self._tops)]
        while waiting:
            role, who = waiting.pop(0)
            entry = meta.get(f"{role}.json")
            if entry is None:
                continue
            for version in self._evidence.versions(role):
                if version <= entry.version:
                    break
                if self._lying(role, version, who) is not None:
                    yield (
                        f"{role} v{version} lies there, signed by its keys, and no "
                        f"list that is left has it: v{entry.version} stands; if the "
                        f"newer one was published, publish it again{perhaps}"
                    )
                    break
            waiting += self._below(role, self._good(role, entry, who))

    def told(
        self,
        meta: Mapping[str, MetaFile],
        shown: Mapping[str, MetaFile],
        *,
        of: str = "",
    ) -> Iterator[str]:
        """Say what a new list has that differs from the one that was shown.

        Args:
            meta: the new list, as `listed` returned it.
            shown: the list before.
            of: whose that was, for messages.
        """
        nobody: list[str] = []
        for name in sorted({*meta, *shown}):
            role = name.removesuffix(".json")
            if name not in meta:
                if role not in self._delegated:
                    nobody.append(role)
                    continue
                yield (
                    f"{of}snapshot listed {role} v{shown[name].version}, and nothing "
                    "that its keys signed is there: it is left out, and its holder "
                    "publishes again"
                )
            elif shown.get(name) != meta[name]:
                said = f"v{shown[name].version}" if name in shown else "nothing"
                yield (
                    f"{of}snapshot listed {said} of {role}: v{meta[name].version} is "
                    "the newest that its keys signed, and is listed again"
                )
        if nobody:
            some = ", ".join(one[:160] for one in nobody[:_MOST_NAMED])
            if len(nobody) > _MOST_NAMED:
                some += f" and {len(nobody) - _MOST_NAMED} more"
            yield (
                f"{of}snapshot listed {some}, and nobody ever delegated to that: it is "
                "left out"
            )

    # --- delegated to now ------------------------------------------------------------

    def _best(self, role: str, who: Sequence[RoleSigners]) -> MetaFile | None:
        for entry in self._candidates.get(f"{role}.json", ()):
            if self._good(role, entry, who) is not None:
                return entry
        for version in self._evidence.versions(role):
            found = self._lying(role, version, who)
            if found is not None:
                return found
        return None

    def _lying(
        self, role: str, version: int, who: Sequence[RoleSigners]
    ) -> MetaFile | None:
        data = self._evidence.read(file_name(role, version), LIMITS.targets)
        entry = None if data is None else meta_of(version, data)
        if entry is None or self._good(role, entry, who) is None:
            return None
        return entry

    def _good(
        self, role: str, entry: MetaFile, who: Sequence[RoleSigners]
    ) -> RoleFile[Any] | None:
        data = self._evidence.named(role, entry) if who else None
        file = None if data is None else _signed(data, who)
        return file if file is not None and file.version == entry.version else None

    def _below(
        self, role: str, file: RoleFile[Targets] | None
    ) -> Iterator[tuple[str, list[RoleSigners]]]:
        below = None if file is None else file.signed.delegations
        for name in (below.roles or {}) if below is not None else {}:
            with suppress(FormatError):
                found = None if file is None else signers_of(file.signed, name)
                if found is not None and delegator_of(name) == role:
                    yield name, [found]

    # --- other keys before, or removed -----------------------------------------------

    def _of_before(self, role: str) -> MetaFile | None:
        who = self._ever(role)
        for entry in self._candidates.get(f"{role}.json", ()):
            if entry.version > SANE:
                break
            if self._good(role, entry, who) is not None:
                return entry
        return None

    def _ever(self, role: str) -> list[RoleSigners]:
        """Return all who could sign a role once."""
        try:
            check_role(role)
        except FormatError:
            return []
        if role in TOP_LEVEL:
            return self._tops if role == "targets" else []
        delegator = delegator_of(role)
        if delegator not in self._once:
            once = self._once[delegator] = {}
            for file in self._versions_of(delegator):
                for name, found in self._below(delegator, file):
                    known = once.setdefault(name, [])
                    known += [one for one in found if one not in known]
        return self._once[delegator].get(role, [])

    def _versions_of(self, role: str) -> Iterator[RoleFile[Targets]]:
        who = self._ever(role)
        for version in self._evidence.versions(role) if who else ():
            data = self._evidence.read(file_name(role, version), LIMITS.targets)
            file = None if data is None else _signed(data, who)
            if file is not None and file.version == version:
                yield file


def _candidates(evidence: Evidence) -> dict[str, list[MetaFile]]:
    """Return what snapshots list of each role, the newest sane file first."""
    found: dict[str, dict[tuple[bool, int, str], MetaFile]] = {}
    for one in evidence.snapshots:
        for name, entry in one.signed.meta.items():
            sha256 = (entry.hashes or {}).get("sha256", "")
            order = (entry.version <= SANE, entry.version, sha256)
            found.setdefault(name, {})[order] = entry
    return {
        name: [entries[order] for order in sorted(entries, reverse=True)]
        for name, entries in found.items()
    }


def _signed(data: bytes, who: Sequence[RoleSigners]) -> RoleFile[Any] | None:
    found = (signed_by(data, one) for one in who)
    return next((one for one in found if one is not None), None)
