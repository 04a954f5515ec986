"""What to ask a source for, and in which order (TUF 5.3 to 5.6).

Decides nothing about trust: every byte, from the network or from the device's own copy,
goes through `workflow`. A copy that no longer passes is fetched again; a source that
can't be reached leaves the walk `offline`, on what was accepted before.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import (
    BudgetError,
    DigestMismatchError,
    ExpiredError,
    FetchError,
    LengthMismatchError,
    MalformedError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.remote import remote
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tuf.api.metadata import MetaFile, TargetFile, Targets

    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.limits import Budget, Limits
    from margo_supplychain.verify.memory import Memory
    from margo_supplychain.verify.workflow import Trusted

CHUNK: Final = 1 << 20


class Walk:
    """One refresh: a source, a memory to start from, and what was accepted.

    Args:
        memory: the floors to start from.
        copies: returns the device's copy of a role's file, or of a target file by
            sha256, unverified.
        source: where to fetch from.
        demand: what the repository must keep to.

    `accepted` and `accepted_targets` hold the bytes worth keeping, `copied_targets`
    what copies had already; `workflow.memory` the floors as they stand, also when a
    call raised; `unreached` why the walk is offline, or None.
    """

    def __init__(
        self,
        memory: Memory,
        copies: Callable[[str], bytes | None],
        source: Source,
        *,
        demand: Demand,
        limits: Limits,
        clock: Clock,
        budget: Budget,
    ) -> None:
        self.workflow = Workflow(memory, demand=demand, limits=limits)
        self.accepted: dict[str, bytes] = {}
        self.accepted_targets: dict[str, bytes] = {}
        self.copied_targets: dict[str, bytes] = {}
        self.unreached: FetchError | None = None
        self._copies = copies
        self._source = source
        self._demand = demand
        self._limits = limits
        self._clock = clock
        self._budget = budget

    @property
    def offline(self) -> bool:
        """Whether the source gave no answer, so that copies decide."""
        return self.unreached is not None

    def top_level(self) -> None:
        """Refresh root, timestamp, snapshot and targets.

        Raises:
            FetchError: the source can't be reached, and what was accepted before has
                expired: nobody froze anything, nobody answered.
        """
        with self._nobody_answered():
            self._roots()
            self.workflow.close_root(self._clock)
            self._timestamp()
            self._snapshot()
        self.role("targets", "root")

    @contextmanager
    def _nobody_answered(self) -> Iterator[None]:
        """Tell a device that was cut off too long from one that is kept in the past."""
        try:
            yield
        except ExpiredError as why:
            # check 1.62 (instead: raise): no answer is no reason for an alarm
            if not self.offline:
                raise
            raise FetchError(
                f"{self._source.url} can't be reached, and {why}",
                url=self._source.url,
                unreachable=True,
                hint="restore the connection; what runs may keep running",
            ) from why

    def _fetch(self, filename: str, limit: int) -> bytes:
        self._budget.check()
        data = self._source.metadata(filename, limit=limit, tick=self._tick)
        self._budget.spend(len(data))
        # check 1.60: endless data, whatever the transport promised
        if len(data) > limit:
            raise TooLargeError(
                f"{filename} has more than {limit} bytes", url=self._source.url
            )
        return data

    def _tick(self, size: int) -> None:
        # Bytes are counted when they are here, whatever the source says of them.
        del size
        self._budget.check()

    def _roots(self) -> None:
        for _ in range(self._limits.root_rotations):
            name = file_name("root", self.workflow.root.version + 1)
            try:
                data = self._fetch(name, self._limits.root)
            except FetchError as why:
                # Only "there is none" means that the trusted root is the newest.
                if why.missing:
                    return
                if why.unreachable and not self.accepted:
                    self.unreached = why
                    return
                raise
            self.workflow.update_root(data)
            self.accepted["root"] = data
        raise BudgetError(
            f"followed {self._limits.root_rotations} roots and there are more",
            hint="run it again: it continues from here",
        )

    def _timestamp(self) -> None:
        copy = self._copies("timestamp")
        if copy is not None:
            try:
                self.workflow.update_timestamp(copy)
            except VerificationError:
                copy = None  # damaged, or its keys have gone: the source's must do
        data = self._timestamp_offered(have_copy=copy is not None)
        if data is not None and self.workflow.update_timestamp(data):
            self.workflow.close_timestamp()
            self.accepted["timestamp"] = data
        else:
            self.workflow.close_timestamp()

    def _timestamp_offered(self, *, have_copy: bool) -> bytes | None:
        if self.unreached is not None:
            if have_copy:
                return None
            # Who did not answer a moment ago would be waited for as long again.
            raise self.unreached
        try:
            return self._fetch("timestamp.json", self._limits.timestamp)
        except FetchError as why:
            if why.unreachable and have_copy:
                self.unreached = why
                return None
            raise

    def _snapshot(self) -> None:
        meta, _ = self.workflow.snapshot_meta
        copy = self._matching_copy("snapshot", meta)
        if copy is not None:
            try:
                self.workflow.update_snapshot(copy)
            except VerificationError:
                if self.offline:
                    raise
            else:
                return
        data = self._fetch_listed("snapshot", meta, self._limits.snapshot)
        self.workflow.update_snapshot(data)
        self.accepted["snapshot"] = data

    def role(self, role: str, delegator: str) -> Trusted[Targets]:
        """Return a targets role, trusted as `delegator` delegates it now."""
        with self._nobody_answered():
            return self._role(role, delegator)

    def _role(self, role: str, delegator: str) -> Trusted[Targets]:
        known = self.workflow.roles.get(role)
        if known is not None:
            # The same file is judged anew by each delegator that leads to it.
            return self.workflow.update_targets(known.file.data, role, delegator)
        meta = self.workflow.listed(role)
        copy = self._matching_copy(role, meta)
        if copy is not None:
            try:
                return self.workflow.update_targets(copy, role, delegator)
            except VerificationError:
                if self.offline:
                    raise
        data = self._fetch_listed(role, meta, self._limits.targets)
        trusted = self.workflow.update_targets(data, role, delegator)
        self.accepted[role] = data
        return trusted

    def _matching_copy(self, role: str, meta: MetaFile) -> bytes | None:
        copy = self._copies(role)
        sha256 = (meta.hashes or {}).get("sha256")
        if copy is None or sha256 is None:
            return copy
        return copy if hashlib.sha256(copy).hexdigest() == sha256 else None

    def _fetch_listed(self, role: str, meta: MetaFile, limit: int) -> bytes:
        if self.offline:
            raise FetchError(
                f"{self._source.url} can't be reached, and there is no usable copy "
                f"of {role} v{meta.version}",
                url=self._source.url,
                unreachable=True,
            )
        consistent = self.workflow.root.signed.consistent_snapshot
        name = file_name(role, meta.version if consistent else None)
        return self._fetch(name, self._bounded(role, meta.length, limit))

    def _bounded(self, what: str, length: int | None, limit: int) -> int:
        # check 1.61: a signed length does not lift the device's limit
        if length is not None and length > limit:
            raise TooLargeError(
                f"{what} has {length} bytes, more than the limit of {limit}",
                url=self._source.url,
            )
        return limit if length is None else length

    def target(self, path: str, file: TargetFile, *, limit: int) -> bytes:
        """Return the exact bytes of a small target file.

        Args:
            path: its target path, from trusted metadata.
            file: what the trusted role says of it.
            limit: most bytes.

        Raises:
            DigestMismatchError, LengthMismatchError: other bytes than signed.
        """
        what = self._target_descriptor(path, file)
        self._bounded(path, file.length, limit)
        copy = self._copies(what.digest.hex)
        if copy is not None and Digest.of(copy) == what.digest:
            self.copied_targets[what.digest.hex] = copy
            return copy
        self._budget.check()
        with self._source.target(target_path(path), what, tick=self._tick) as stream:
            data = stream.read(file.length + 1)
            while len(data) <= file.length and (more := stream.read(CHUNK)):
                data += more
        self._budget.spend(len(data))
        # check 3.1: TUF 5.7, the signed length
        if len(data) != file.length:
            raise LengthMismatchError(
                f"{path} has {'more' if len(data) > file.length else 'fewer'} bytes "
                f"than the signed {file.length}",
                subject=path,
                expected=file.length,
                found=len(data),
            )
        # check 3.2: TUF 5.7, the signed hash
        if Digest.of(data) != what.digest:
            raise DigestMismatchError(
                f"{path} is {Digest.of(data).short}, signed is {what.digest.short}",
                subject=path,
                expected=str(what.digest),
                found=str(Digest.of(data)),
            )
        self.accepted_targets[what.digest.hex] = data
        return data

    def _target_descriptor(self, path: str, file: TargetFile) -> Descriptor:
        with remote(path):
            # check 3.3: one hash, so that consistent snapshots have one copy: sha256
            if set(file.hashes) != {"sha256"}:
                raise MalformedError(
                    f"{path} is signed with hashes {sorted(file.hashes)}, expected "
                    "sha256 alone"
                )
            digest = Digest("sha256", file.hashes["sha256"])
            return Descriptor(
                media_type="application/octet-stream", digest=digest, size=file.length
            )
