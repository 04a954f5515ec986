"""How a repository would stand with roles that others have signed, before it does.

The device's own rules judge it, over a snapshot that nobody has signed yet: that is
what an operator signs afterwards. Nothing here is written, and a prospect never
changes: `joined` gives the next one, so what is refused leaves no trace.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, final

from tuf.api.metadata import Metadata, Snapshot

from margo_supplychain.authoring.contained import is_contained
from margo_supplychain.authoring.delegator_fields import cut_off
from margo_supplychain.authoring.history import KeyHistory
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.past import Past
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.settings import Settings, verified_settings
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, AuthorWalk, OnceWalk, no_copies
from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.tuf_metadata import RoleFile, file_name, parse_targets
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.workflow import Trusted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tuf.api.metadata import MetaFile, Root, Targets

    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import Judgement, State
    from margo_supplychain.authoring.submission import SubmittedTarget

MOST_TAKEN: Final = 100  # names in a row that something else has


@final
class Prospect:
    """One state of a repository that is yet to be signed.

    Args:
        state: the verified state that it begins from.
        place: where the repository lies.
        now: when all of it happens.
        meta: what the snapshot would list; as it stands, if it is left out.
        staged: metadata and target files that are not written yet.
        known: what other walks accepted at the same time.
        past: what was published before; read when it is asked for.
        keys: which keys roles had; likewise.

    Attributes:
        settings: profile and periods, as verified metadata has them.
        overlay: the staged files in front of the place.
    """

    def __init__(
        self,
        state: State,
        place: Place,
        *,
        now: datetime,
        meta: Mapping[str, MetaFile] | None = None,
        staged: Staged | None = None,
        known: Mapping[Judgement, Trusted[Targets]] | None = None,
        past: Past | None = None,
        keys: KeyHistory | None = None,
    ) -> None:
        self.state = state
        self.place = place
        self.now = now
        self.meta = dict(state.snapshot.signed.meta if meta is None else meta)
        self.staged = staged or Staged()
        self.settings = verified_settings(Settings(profile="standard"), state)
        self.overlay = Overlay(self.staged, place.source)
        self.past = Past(place.source, state) if past is None else past
        self.keys = KeyHistory() if keys is None else keys
        # Of many submissions with the same file, one is looked at.
        self._lives_on: dict[tuple[str, str | None, str | None], bool] = {}
        self._standing: dict[str, tuple[MetaFile, Targets] | None] = {}
        self._known = state.walk.unexpired() if known is None else known

    def joined(
        self, roles: Sequence[RoleFile[Targets]], targets: Sequence[SubmittedTarget]
    ) -> Prospect:
        """Return how the repository would stand with these roles and target files."""
        meta = dict(self.meta)
        staged = Staged(
            targets=dict(self.staged.targets), metadata=dict(self.staged.metadata)
        )
        for one in roles:
            meta[f"{one.role}.json"] = meta_of(one.version, one.data)
            staged.metadata[file_name(one.role, one.version)] = one.data
        for target in targets:
            staged.targets[target.path] = (target.what, target.data)
        return Prospect(
            self.state,
            self.place,
            now=self.now,
            meta=meta,
            staged=staged,
            past=self.past,
            keys=self.keys,
            known={
                judgement: one
                for judgement, one in {
                    **self._known,
                    **self.walk.accepted_roles,
                }.items()
                if judgement.sha256 == _sha256(meta.get(f"{judgement.role}.json"))
            },
        )

    # --- as devices and authors see it -----------------------------------------------

    @cached_property
    def walk(self) -> OnceWalk:
        """A device's walk, at the point where it knows the snapshot.

        Raises:
            ExpiredError: the root has expired.
        """
        memory = self.state.walk.workflow.complete()
        clock = StoppedClock(self.now)
        walk = OnceWalk(
            memory, no_copies, self.overlay, clock=clock, accepted=self._known
        )
        walk.workflow.close_root(clock)
        walk.workflow.snapshot = self._unsigned()
        return walk

    @cached_property
    def tolerant(self) -> AuthorWalk:
        """The same, but for expiry: what is there, whoever is late."""
        memory = self.state.walk.workflow.complete()
        clock = StoppedClock(self.now)
        walk = AuthorWalk(memory, no_copies, self.overlay, clock=clock)
        walk.workflow.close_root(clock)
        walk.workflow.snapshot = self._unsigned()
        return walk

    def trusted(self, role: str, *, tolerant: bool = False) -> Trusted[Targets]:
        """Return a targets role as its delegators, from root down, want it.

        Raises:
            VerificationError: it is not signed so, or has expired.
            FetchError: a file is missing.
        """
        walk = self.tolerant if tolerant else self.walk
        delegator = delegator_of(role)
        if delegator != "root":
            self.trusted(delegator, tolerant=tolerant)
        return walk.role(role, delegator)

    def lists(self, role: str) -> bool:
        """Say whether the snapshot would list a role: whether it was ever signed."""
        return f"{role}.json" in self.meta

    def version(self, role: str) -> int:
        """Return a role's version in the snapshot; 0 if it was never signed."""
        entry = self.meta.get(f"{role}.json")
        return 0 if entry is None else entry.version

    def who(self, role: str) -> RoleSigners | None:
        """Return who may sign a role; None if nobody delegates to it.

        Raises:
            VerificationError, FetchError: its delegator is not there as it should be.
        """
        delegator = delegator_of(role)
        if delegator == "root":
            return signers_of(self.state.root.signed, role)
        if self.who(delegator) is None or not self.lists(delegator):
            return None
        return signers_of(self.trusted(delegator).signed, role)

    # --- what there was --------------------------------------------------------------

    def standing(self, role: str) -> Targets | None:
        """Return what a role says before anything changes; see `_standing_of`."""
        found = self._stands(role)
        return None if found is None else found[1]

    def stands_at(self, role: str) -> MetaFile | None:
        """Return which file that is."""
        found = self._stands(role)
        return None if found is None else found[0]

    def _stands(self, role: str) -> tuple[MetaFile, Targets] | None:
        if role not in self._standing:
            self._standing[role] = self._standing_of(role)
        return self._standing[role]

    def is_signed_by(self, who: RoleSigners) -> bool:
        """Say whether enough of these keys signed what would be listed of a role.

        Raises:
            FetchError: its file is not there.
        """
        entry = self.meta.get(f"{who.role}.json")
        if entry is None:
            return False
        return signed_by(self._named(who.role, entry), who) is not None

    def _standing_of(self, role: str) -> tuple[MetaFile, Targets] | None:
        """Return what a role says, as its keys signed it last; None if they never did.

        Of a role whose keys were cut off, and of an application that was removed, that
        is the last file before (`x-cut-off`): its past binds whoever goes on. What a
        thief of snapshot's key put on the list says nothing.

        Raises:
            FetchError: its file is not there.
            MetadataFormatError: what its delegator says of it can't be read.
        """
        entry = self.meta.get(f"{role}.json")
        parent = self._delegator_before(role)
        if entry is None or parent is None:
            return None
        who = signers_of(parent, role)
        file = None if who is None else signed_by(self._named(role, entry), who)
        if file is None:
            found = cut_off(parent, role)
            if found is None or found.last is None:
                return None
            entry = found.last
            data = self._named(role, entry)
            file = parse_targets(data, role=role, limit=LIMITS.targets)
        return entry, file.signed

    def _delegator_before(self, role: str) -> Root | Targets | None:
        delegator = delegator_of(role)
        if delegator == "root":
            return self.state.root.signed
        return self.standing(delegator)

    def _named(self, role: str, entry: MetaFile) -> bytes:
        data = self.file(role, entry.version)
        if data is None or meta_of(entry.version, data) != entry:
            raise FetchError(
                f"{self.overlay.url} has no {role} v{entry.version} as it is signed",
                url=self.overlay.url,
                hint="repair the repository first: margo-supplychain repo check "
                "--repair",
            )
        return data

    def file(self, role: str, version: int) -> bytes | None:
        """Return what has a versioned name, unverified; None if nothing has."""
        name = file_name(role, version)
        try:
            return self.overlay.metadata(name, limit=LIMITS.targets)
        except FetchError as why:
            if why.missing:
                return None
            raise

    def has(self, role: str, version: int, data: bytes) -> bool:
        """Say whether exactly this file was taken before.

        An older file may lie there from a run that was killed, and what came later
        knows nothing of it: it was taken if a snapshot has listed it, or in this run,
        or if what it changed is still so.
        """
        entry = self.meta.get(f"{role}.json")
        if entry is None or version > entry.version:
            return False
        if version == entry.version:
            return meta_of(version, data) == entry
        if self.file(role, version) != data:
            return False
        if self.staged.metadata.get(file_name(role, version)) == data:
            return True
        listed = meta_of(version, data)
        if self.past.has_listed(role, listed):
            return True
        asked = role, _sha256(listed), _sha256(entry)
        if asked not in self._lives_on:
            self._lives_on[asked] = self._is_contained(role, version, data)
        return self._lives_on[asked]

    def _is_contained(self, role: str, version: int, data: bytes) -> bool:
        now, before = self.standing(role), self.file(role, version - 1)
        if now is None or before is None:
            return False
        try:
            old, first = (
                parse_targets(one, role=role, limit=LIMITS.targets).signed
                for one in (data, before)
            )
            return is_contained(old, first, now)
        except FormatError:
            return False

    def next_version(self, role: str, data: bytes) -> int:
        """Return the version that a role's next file must have.

        That is the next one. Only where something else lies under its name, which a
        run that was killed may have left, is it the first one whose name is free: a
        versioned name never has two contents.
        """
        first = self.version(role) + 1
        for version in range(first, first + MOST_TAKEN):
            there = self.place.written(role, version)
            if there is None or data in (there, self.file(role, version)):
                return version
        return first

    # --- the snapshot ----------------------------------------------------------------

    def snapshot_size(self) -> int:
        """Return how many bytes the snapshot's list would have."""
        meta = {name: entry.to_dict() for name, entry in self.meta.items()}
        return len(strict_json.canonical({"meta": meta}))

    def _unsigned(self) -> Trusted[Snapshot]:
        version = self.state.snapshot.version + 1
        signed = Snapshot(version=version, meta=dict(self.meta))
        file = RoleFile(
            role="snapshot",
            data=b"",
            payload=b"",
            metadata=Metadata(signed),
            sha256=Digest.of(b"").hex,
            issued=None,
        )
        return Trusted(file, frozenset(), ())


def _sha256(entry: MetaFile | None) -> str | None:
    return None if entry is None else (entry.hashes or {}).get("sha256")
