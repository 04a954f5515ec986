"""What a snapshot lists that has the work of two publishers in it.

Nothing is decided here by who came first: of a role that only one of them changed, that
file is taken; of one that both changed, the other's stays, since he may have been told
that it is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final

from tuf.api.metadata import Targets

from margo_supplychain.authoring.rehearsal import Subjects
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import (
    application_of,
    check_role,
    delegator_of,
    kind_of,
    signers_of,
)
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FormatError, RefusedError, ThresholdError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL, file_name, parse_targets

if TYPE_CHECKING:
    from tuf.api.metadata import MetaFile, Snapshot

    from margo_supplychain.authoring.role_signing import RoleSigning
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.tuf_metadata import RoleFile


class Rival(NamedTuple):
    """A snapshot of another publisher, verified by its signature alone.

    Args:
        snapshot: the file.
        version: of the timestamp that names it; 0 if it is not published as far as
            anybody was told.
    """

    snapshot: RoleFile[Snapshot]
    version: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by: one that is published is another one."""
        return self.snapshot.sha256, self.version


@final
class Union:
    """What a snapshot lists that has the work of two in it.

    Who may sign is settled first, then what they signed: a role whose keys somebody
    took away does not come back with what they signed at the same moment.

    Attributes:
        meta: the list.
        theirs: names that the other brought.
        lost: roles that both changed, or that we may not sign any more.
        odd: roles of theirs that nobody delegates to, or not to who signed them.
    """

    def __init__(
        self,
        work: Work,
        signing: RoleSigning,
        *,
        base: RoleFile[Snapshot],
        ours: RoleFile[Snapshot],
        firm: frozenset[str],
    ) -> None:
        self._work = work
        self._signing = signing
        self._base = base.signed.meta
        self._firm = firm
        self.meta = dict(ours.signed.meta)
        self.theirs: frozenset[str] = frozenset()
        self.lost: frozenset[str] = frozenset()
        self.odd: set[str] = set()

    def add(self, one: Rival) -> None:
        """Take in what the other changed.

        Raises:
            FetchError, VerificationError: it can't be read, or is not signed.
        """
        offered = one.snapshot.signed.meta
        for name in sorted({*self.meta, *offered}, key=_depth):
            role = name.removesuffix(".json")
            known, entry = self.meta.get(name), offered.get(name)
            is_theirs = entry is not None and entry not in (self._base.get(name), known)
            if entry is not None and is_theirs:
                if self._may_take(role, entry, is_published=bool(one.version)):
                    self._take(name, role, entry)
            elif known is not None and known != self._base.get(name):
                self._keep(role, known)

    def _may_take(self, role: str, entry: MetaFile, *, is_published: bool) -> bool:
        if role in TOP_LEVEL - {"targets"}:
            self.odd.add(role)
            return False
        who = self._who(role)
        if who is not None and signed_by(self._read(role, entry), who) is not None:
            return True
        if who is not None and kind_of(role) != "application":
            raise ThresholdError(
                f"{role} v{entry.version} is not signed by its own keys",
                role=role,
                needed=who.threshold,
                valid=0,
            )
        self.odd.add(role)
        # Devices that have seen such an entry want it to stay.
        return is_published

    def _take(self, name: str, role: str, entry: MetaFile) -> None:
        known = self.meta.get(name)
        if known != self._base.get(name):
            if name in self._firm:
                raise RefusedError(f"both changed {role}")
            self.lost |= {role}
        if known is not None and known.version >= entry.version:
            # Devices may have seen ours: the other's content takes a newer version.
            data = self._read(role, entry)
            entry = self._signing.sign(role, _content(role, data), above=known.version)
        self.meta[name] = entry
        self.theirs |= {name}

    def _keep(self, role: str, known: MetaFile) -> None:
        """Note a role of ours that those who may sign it now have not signed."""
        if kind_of(role) == "application":
            who = self._who(role)
            if who is None or signed_by(self._read(role, known), who) is None:
                self.odd.add(role)
                self.lost |= {role}

    def _who(self, role: str) -> RoleSigners | None:
        """Return who may sign a role, as the list has it so far."""
        try:
            delegator = delegator_of(check_role(role))
        except FormatError:
            return None
        if delegator == "root":
            return self._work.changes.require_who(role)
        entry = self.meta.get(f"{delegator}.json")
        if entry is None or self._who(delegator) is None:
            return None
        data = self._read(delegator, entry)
        parent = parse_targets(data, role=delegator, limit=LIMITS.targets)
        return signers_of(parent.signed, role)

    def _read(self, role: str, entry: MetaFile) -> bytes:
        data = self._work.staged.metadata.get(file_name(role, entry.version))
        if data is not None and meta_of(entry.version, data) == entry:
            return data
        return self._work.place.named(role, entry)

    def subjects(self) -> Subjects:
        """Return what devices have to judge."""
        known = self._work.state.snapshot.signed.meta
        changed = [
            role
            for name, entry in self.meta.items()
            if entry != known.get(name)
            and (role := name.removesuffix(".json")) not in self.odd
            and self._who(role) is not None
        ]
        return Subjects(
            tuple(changed),
            {
                application_of(role): frozenset()
                for role in changed
                if kind_of(role) == "application"
            },
        )


def _depth(name: str) -> tuple[int, str]:
    """Order names so that who delegates comes before who is delegated to."""
    role = name.removesuffix(".json")
    return (0 if role == "targets" else 2 if "." in role else 1), name


def _content(role: str, data: bytes) -> Targets:
    signed: dict[str, Any] = strict_json.parse(data, what=role, limit=LIMITS.targets)
    return Targets.from_dict(signed["signed"])
