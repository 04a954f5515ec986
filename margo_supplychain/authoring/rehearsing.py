"""A root ceremony played on a copy: stand-ins sign for every holder, devices judge.

The copy lies in a temporary directory and has the trust metadata of the repository, its
top-level roles signed by keys that were made a moment ago. So nobody's key, passphrase
or token is asked for, and what comes out is worth nothing elsewhere. What is played is
the very code that `root finalize` runs, from the proposal to what devices make of it.

Example:
    >>> for line in rehearse(repository, proposal):  # doctest: +SKIP
    ...     print(line)
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from securesystemslib.signer import CryptoSigner

from margo_supplychain import threshold
from margo_supplychain.authoring import consent
from margo_supplychain.authoring.checks import unfollowed
from margo_supplychain.authoring.effects import expires_soon, of_leaving
from margo_supplychain.authoring.holders import (
    HOLDERS,
    holders_field,
    holders_of,
)
from margo_supplychain.authoring.plan import TOP_ROLES, RoleKeys
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import RoleSigners
from margo_supplychain.authoring.signatures import Signers, signed_bytes
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.survey import descriptor_of
from margo_supplychain.errors import RefusedError, SupplyChainError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL, file_name
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.verify.clock import StoppedClock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Key
    from tuf.api.metadata import MetaFile, Root, Signed

    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.state import State
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore


def rehearse(
    repository: Repository,
    proposal: RootProposal,
    *,
    clock: Clock | None = None,
    state: TrustStore | None = None,
) -> tuple[str, ...]:
    """Play a ceremony on a copy, and return what happened, one line each.

    Args:
        repository: where the root is to be adopted; nothing is written there.
        proposal: the root, signed or not.
        clock: the machine's by default.
        state: the author's memory of the repository.

    Raises:
        RefusedError: what stands there does not verify, so there is nothing to copy.
        SupplyChainError: what `root finalize` would refuse.
        StorageError: the temporary directory can't be written.
    """
    now = (clock or SystemClock()).now()
    stopped = StoppedClock(now)
    try:
        begun = repository.begun(clock=stopped, state=state)
    except SupplyChainError as why:
        raise RefusedError(
            f"{repository.url} does not verify as it stands, so it can't be copied for "
            f"a rehearsal: {why}",
            hint="`root finalize` lets devices judge the result before it writes; "
            "nothing was changed",
        ) from why
    with tempfile.TemporaryDirectory(prefix="margo-rehearsal-") as place:
        return tuple(_Play(Path(place), begun, proposal, stopped).lines())


@final
class _Play:
    """One rehearsal.

    Args:
        directory: the copy.
        begun: what stands in the repository.
        proposal: the root.
        clock: when.
    """

    def __init__(
        self, directory: Path, begun: State, proposal: RootProposal, clock: Clock
    ) -> None:
        self._sink = DirectorySink(directory)
        self._begun = begun
        self._proposal = proposal
        self._clock = clock
        # The same key is the same person, whatever it signs.
        self._stand_ins: dict[str, CryptoSigner] = {}
        self._names: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        """Play it, and yield what happened."""
        from margo_supplychain.authoring.repository import Repository

        old, new = self._begun.root.signed, self._proposal.root.signed
        self._know(old)
        self._know(new)
        self._know_names()
        first = self._copy(old)
        copy = Repository.open(self._sink.directory)
        yield (
            f"copied what stands: {self._begun.root.file.label}, with stand-ins for "
            f"{len(self._stand_ins)} keys"
        )
        yield from expires_soon(self._proposal.root.expires, self._clock.now())
        yield from of_leaving(old, new)
        played = self._played(first)
        # As the proposal itself says who is asked next: without the keys that leave, as
        # long as it can be done without them.
        while (keyid := consent.next_key(played)) is not None:
            is_leaving = keyid in consent.leaving(played)
            played = played.sign(self._signer(keyid))
            left = consent.lacking(played, self._names)
            how = "signs with a key that leaves" if is_leaving else "signs"
            done = "old and new root are complete"
            yield f"{self._names[keyid]} {how}: {'; '.join(left) or done}"
        written = copy.adopt_root(
            played.finalize(),
            list(self._stand_ins.values()),
            clock=self._clock,
            time_checked=True,
        )
        again = [
            f"{role} v{version}"
            for role, (version, _) in sorted(written.roles.items())
            if role != "root"
        ]
        yield f"finalized: root, and signed again: {', '.join(again) or 'nothing'}"
        yield from written.warnings
        yield "a device that begins at the first root follows"
        yield "a device with the state before follows"

    # --- who -------------------------------------------------------------------------

    def _know(self, root: Root) -> None:
        for role in TOP_ROLES:
            for keyid in root.roles[role].keyids:
                self._of(root.keys[keyid])

    def _know_names(self) -> None:
        for keyid, key in self._proposal.keys.items():
            stand_in = self._of(key).public_key.keyid
            self._names[stand_in] = consent.called(self._proposal, keyid)

    def _signer(self, keyid: str) -> CryptoSigner:
        found = self._stand_ins.values()
        return next(one for one in found if one.public_key.keyid == keyid)

    def _of(self, key: Key) -> CryptoSigner:
        material = threshold.material(key)
        if material not in self._stand_ins:
            self._stand_ins[material] = CryptoSigner.generate_ed25519()
        return self._stand_ins[material]

    def _keys(self, root: Root, role: str) -> RoleKeys:
        found = root.roles[role]
        keys = (self._of(root.keys[keyid]).public_key for keyid in found.keyids)
        return RoleKeys(keys=tuple(keys), threshold=found.threshold)

    # --- the copy --------------------------------------------------------------------

    def _played(self, first: bytes) -> RootProposal:
        """Return the proposal of the copy: what is proposed, of the stand-ins' keys."""
        new = self._proposal.root.signed
        root = _parsed(self._proposal.data)
        root.version = 2
        self._give_stand_ins(root, new)
        data = strict_json.canonical({"signatures": [], "signed": root.to_dict()})
        played = RootProposal.parse(data, trusted=first)
        played.check_time(self._clock.now())
        return played

    def _copy(self, old: Root) -> bytes:
        """Write what stands, and return the copy's first root."""
        first = self._put("root", self._first_root(old), old)
        begun = self._begun
        unfollowed(begun.walk)  # reads every role and policy
        for role, one in begun.walk.workflow.roles.items():
            if role not in TOP_LEVEL:
                name = file_name(role, one.version)
                self._sink.put_metadata(name, one.file.data)
        self._copy_targets()
        meta = dict(begun.snapshot.signed.meta)
        targets = begun.trusted("targets").file.data
        meta["targets.json"] = self._listed("targets", _parsed(targets), old)
        snapshot = _parsed(begun.snapshot.file.data)
        snapshot.meta = meta
        timestamp = _parsed(begun.timestamp.file.data)
        timestamp.snapshot_meta = self._listed("snapshot", snapshot, old)
        self._put("timestamp", timestamp, old)
        return first

    def _first_root(self, old: Root) -> Any:
        root = _parsed(self._begun.root.file.data)
        root.version = 1
        self._give_stand_ins(root, old)
        return root

    def _give_stand_ins(self, root: Any, of: Root) -> None:
        keys = {role: self._keys(of, role) for role in TOP_ROLES}
        root.keys = {key.keyid: key for one in keys.values() for key in one.keys}
        for role, one in keys.items():
            root.roles[role].keyids = list(one.keyids)
        # Names belong to key ids, which are others here.
        root.unrecognized_fields.pop(HOLDERS, None)
        holders = {
            self._of(of.keys[keyid]).public_key.keyid: holder
            for keyid, holder in holders_of(of).items()
            if keyid in of.keys
        }
        root.unrecognized_fields.update(holders_field(holders, root.keys))

    def _copy_targets(self) -> None:
        walk = self._begun.walk
        for one in walk.workflow.roles.values():
            for path, file in one.signed.targets.items():
                data = walk.accepted_targets.get(file.hashes.get("sha256", ""))
                if data is not None:
                    what = descriptor_of(path, file)
                    self._sink.put_target(target_path(path), what, io.BytesIO(data))

    def _listed(self, role: str, signed: Signed, old: Root) -> MetaFile:
        return meta_of(signed.version, self._put(role, signed, old))

    def _put(self, role: str, signed: Signed, old: Root) -> bytes:
        keys = self._keys(old, role)
        by_id = {key.keyid: key for key in keys.keys}
        who = RoleSigners(role, by_id, keys.threshold)
        data = signed_bytes(signed, who, Signers(self._stand_ins.values()))
        version = None if role == "timestamp" else signed.version
        self._sink.put_metadata(file_name(role, version), data)
        return data


def _parsed(data: bytes) -> Any:
    from tuf.api.metadata import Metadata

    raw = strict_json.parse(data, what="metadata", limit=LIMITS.targets)
    return Metadata[Any].from_dict(raw).signed
