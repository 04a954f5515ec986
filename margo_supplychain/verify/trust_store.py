"""Where a device keeps its memory, and copies of what it accepted.

One directory per trusted repository: `memory-a` and `memory-b` hold the same memory,
written durably one after the other; `metadata/`, `targets/` and `attestations/` are
copies of signed files, untrusted until they pass again, so losing them costs a download
and no safety.
A store is never made by opening it. The lock is held for a commit, not for a download.

Restoring the *whole* directory from an older backup can't be noticed without a
hardware counter: a stated limit.

Example:
    >>> store = TrustStore.create(  # doctest: +SKIP
    ...     Path("state/acme"), root=root_bytes, publishers=frozenset({"acme"}))
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self, final

from margo_supplychain.errors import (
    AmbiguousRoleError,
    ConflictError,
    FormatError,
    StateLostError,
    StorageError,
)
from margo_supplychain.formats.names import publisher_name
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    read_file,
    remove_file,
    write_file,
)
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.memory import LIMIT, Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.memory import FetchedRelease, ReleaseFloor

MEMORY_FILES: Final = ("memory-a", "memory-b")
LOCK_TIMEOUT: Final = 30.0  # seconds; a commit takes milliseconds
# Small verified files that are kept, the newest first; and as many envelopes.
MAX_COPIES: Final = 512
MAX_COPIES_SIZE: Final = 64 << 20  # bytes
# In a directory of their own: links of a large build would push policies out.
MAX_ATTESTATIONS_SIZE: Final = 64 << 20  # bytes
_COPY_LIMIT: Final = Limits().targets
_NUMBERS: Final = itertools.count(1)  # of stores without a disk


class StoreStatus(NamedTuple):
    """What a store remembers, for people and monitoring.

    Args:
        root: version of the trusted root.
        timestamp, snapshot: newest accepted versions, or None.
        time_floor: the latest signed time, or None.
        slots: slot → application → what was confirmed to run there.
        withdrawn: how many artifacts are remembered as withdrawn.
        fetched: what may be confirmed, oldest first.
    """

    publishers: frozenset[str]
    root: int
    timestamp: int | None
    snapshot: int | None
    time_floor: datetime | None
    slots: Mapping[str, Mapping[ReleaseName, ReleaseFloor]]
    withdrawn: int
    fetched: tuple[FetchedRelease, ...]


class _State(Protocol):
    """Where memory and copies are held."""

    def load(self) -> Memory: ...

    def copy(self, name: str) -> bytes | None: ...

    def target(self, owned: str) -> bytes | None: ...

    def attestation(self, name: ReleaseName, digest: Digest) -> bytes | None: ...

    def keep_attestations(
        self, name: ReleaseName, found: Mapping[Digest, bytes]
    ) -> None: ...

    def commit(
        self,
        change: Callable[[Memory], Memory | None],
        files: Mapping[str, bytes],
        targets: Mapping[str, bytes],
    ) -> Memory: ...


@final
class TrustStore:
    """A device's trust in one repository. Made by `create` or `open`."""

    def __init__(self, state: _State, where: str) -> None:
        self._state = state
        self.where = where

    @classmethod
    def create(
        cls, directory: Path, *, root: bytes, publishers: frozenset[str]
    ) -> Self:
        """Make a store from a root that arrived out of band.

        Keep a device's stores side by side in one directory: a publisher that a
        neighbour already speaks for is refused.

        Args:
            directory: new or without a memory.
            root: exact bytes of a trusted root, any version.
            publishers: whom this repository may speak for.

        Raises:
            MalformedError, ThresholdError: the root is none, or not signed by itself.
            AmbiguousRoleError: a neighbouring store claims one of the publishers.
            StorageError: a store is there already, or the disk refuses.
        """
        if not publishers:
            raise ValueError("a store needs at least one publisher")
        memory = _first_memory(root, publishers)
        make_directory(directory.parent)
        # Two that are made at once would not see each other.
        with DirectoryLock(directory.parent, timeout=LOCK_TIMEOUT):
            for neighbour, claimed in _neighbours(directory):
                both = sorted(claimed & publishers)
                # check 0.1: one publisher, one root of trust
                if both:
                    raise AmbiguousRoleError(
                        f"publisher {both[0]} is claimed by the store {neighbour} "
                        "already",
                        name=both[0],
                        roles=(str(neighbour), str(directory)),
                        hint="one repository speaks for a publisher; remove one of "
                        "them",
                    )
            state = DiskState(directory)
            state.begin(memory)
        return cls(state, str(directory))

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open an existing store.

        Raises:
            StateLostError: there is none, or both copies of its memory are damaged.
        """
        state = DiskState(directory)
        state.load()
        return cls(state, str(directory))

    @classmethod
    def unsafe_without_memory(
        cls, *, root: bytes, publishers: frozenset[str] | None = None
    ) -> Self:
        """Make a store that forgets everything with the process (for `repo check`).

        Args:
            root: exact bytes of the trusted root.
            publishers: whom the repository may speak for; None means anybody.
        """
        memory = _first_memory(root, publishers)
        state = _Volatile(memory)
        # A number that never comes again: what one store accepted is not another's.
        return cls(state, f"memory {next(_NUMBERS)} of this run")

    @property
    def label(self) -> str:
        """Where the memory is, for people: a directory, or `of this run alone`."""
        is_kept = not isinstance(self._state, _Volatile)
        return self.where if is_kept else "of this run alone"

    @property
    def publishers(self) -> frozenset[str]:
        """Whom the repository may speak for; empty for a store for anybody."""
        return self._state.load().publishers or frozenset()

    def status(self) -> StoreStatus:
        """Return what the store remembers."""
        memory = self._state.load()
        root = Workflow(memory, demand=Demand.TUF, limits=Limits()).root
        return StoreStatus(
            publishers=memory.publishers or frozenset(),
            root=root.version,
            timestamp=memory.timestamp.version if memory.timestamp else None,
            snapshot=memory.snapshot.version if memory.snapshot else None,
            time_floor=memory.time_floor,
            slots=memory.releases,
            withdrawn=sum(len(seen) for seen in memory.withdrawn.values()),
            fetched=memory.fetched,
        )

    # --- for the verifier ------------------------------------------------------------

    def load(self) -> Memory:
        """Return the memory as it is now."""
        return self._state.load()

    def copy(self, name: str) -> bytes | None:
        """Return the unverified copy of a role's file, or of a target without owner.

        Those are by sha256, and from before copies had an owner.
        """
        return self._state.copy(name)

    def copy_for(self, owner: ReleaseName, name: str) -> bytes | None:
        """Return the unverified copy of a role's file or of an application's target."""
        own = self._state.target(_owned(name, owner))
        return own if own is not None else self._state.copy(name)

    def keep(
        self,
        before: Memory,
        after: Memory,
        files: Mapping[str, bytes],
        targets: Mapping[str, bytes],
        *,
        owner: ReleaseName | None = None,
    ) -> Memory:
        """Commit newer trust: durable when this returns.

        Args:
            before: what was loaded.
            after: what is trusted now.
            files: accepted metadata by role.
            targets: accepted small files by sha256.
            owner: the application that `targets` are of, if there are any.

        Raises:
            ConflictError: another process committed since `before` was loaded.
        """
        if after == before and not files and not targets:
            return before

        def change(current: Memory) -> Memory | None:
            # check 0.3: a stale view never lowers what another process has raised
            if current.sequence != before.sequence:
                raise ConflictError(f"{self.where} was changed by another process")
            return after if after != before else None

        if owner is not None:
            targets = {_owned(name, owner): data for name, data in targets.items()}
        return self._state.commit(change, files, targets)

    def keep_copies(self, owner: ReleaseName, targets: Mapping[str, bytes]) -> None:
        """Keep an application's small verified files by sha256, where it has none yet.

        What another application keeps, or nobody's, may go: each has its own. No safety
        hangs on them: a disk that refuses costs a download.
        """
        owned = {_owned(name, owner): data for name, data in targets.items()}
        fresh = {
            name: data
            for name, data in owned.items()
            if self._state.target(name) != data
        }
        if fresh:
            with suppress(StorageError):
                self._state.commit(lambda _: None, {}, fresh)

    def attestation(self, name: ReleaseName, digest: Digest) -> bytes | None:
        """Return the unverified copy of an envelope of an application."""
        return self._state.attestation(name, digest)

    def keep_attestations(
        self, name: ReleaseName, found: Mapping[Digest, bytes]
    ) -> None:
        """Keep copies of envelopes that a yes was about; no safety hangs on them."""
        self._state.keep_attestations(name, found)

    def update(self, change: Callable[[Memory], Memory]) -> Memory:
        """Change the memory as it is under the lock."""
        return self._state.commit(change, {}, {})


def _first_memory(root: bytes, publishers: frozenset[str] | None) -> Memory:
    for one in publishers or ():
        publisher_name(one)
    memory = Memory(root=root, publishers=publishers)
    # check 0.4: a root that no device could start from is refused here
    Workflow(memory, demand=Demand.MARGO, limits=Limits())
    return memory


def _neighbours(directory: Path) -> list[tuple[Path, frozenset[str]]]:
    return [
        (one, DiskState(one).load().publishers or frozenset())
        for one in sorted(directory.parent.iterdir())
        if one.name != directory.name
        and any(os.path.lexists(one / name) for name in MEMORY_FILES)
    ]


def _write_memory(directory: Path, memory: Memory) -> None:
    data = memory.to_bytes()
    for name in MEMORY_FILES:
        write_file(directory / name, data, mode=0o600)


class DiskState:
    """Memory and copies in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def begin(self, memory: Memory) -> None:
        """Write the first memory.

        Raises:
            StorageError: there is one already, or the disk refuses.
        """
        make_directory(self._directory, mode=0o700)
        with DirectoryLock(self._directory, timeout=LOCK_TIMEOUT):
            # check 0.2: making a store never forgets one
            if any(os.path.lexists(self._directory / name) for name in MEMORY_FILES):
                raise StorageError(
                    f"{self._directory} holds a store already",
                    path=str(self._directory),
                    hint="open it; to begin anew, remove it yourself, and with it all "
                    "that it remembers",
                )
            _write_memory(self._directory, memory)

    def load(self) -> Memory:
        """Return the newest good copy, after repairing a damaged one."""
        memory, sound = self._read()
        if not sound:
            with DirectoryLock(self._directory, timeout=LOCK_TIMEOUT):
                # Another process may have repaired, or gone on, in the meantime.
                memory, sound = self._read()
                if not sound:
                    _write_memory(self._directory, memory)
        return memory

    def _read(self) -> tuple[Memory, bool]:
        data = []
        unreadable: StorageError | None = None
        for name in MEMORY_FILES:
            try:
                data.append(read_file(self._directory / name, limit=LIMIT))
            except FileNotFoundError:
                data.append(b"")
            except StorageError as why:
                # A bad sector in one copy is what the other is there for.
                unreadable = why
                data.append(b"")
        if data[0] == data[1]:
            data.pop()
        good = []
        for one in data:
            try:
                good.append(Memory.from_bytes(one))
            except FormatError:
                continue
        if not good and unreadable is not None:
            raise unreadable
        # check 0.5: losing the memory is an error, never a new beginning
        if not good:
            raise StateLostError(
                f"{self._directory} has no readable memory", path=str(self._directory)
            )
        newest = max(good, key=lambda one: one.sequence)
        return newest, len(data) == 1

    def copy(self, name: str) -> bytes | None:
        """Return a copy, or None when it is not there or can't be read."""
        try:
            return read_file(self._path(name), limit=_COPY_LIMIT)
        except (FileNotFoundError, StorageError):
            return None

    def target(self, owned: str) -> bytes | None:
        """Return an application's copy, or None when there is none to be read."""
        try:
            return read_file(self._directory / "targets" / owned, limit=_COPY_LIMIT)
        except (FileNotFoundError, StorageError):
            return None

    def attestation(self, name: ReleaseName, digest: Digest) -> bytes | None:
        """Return a copy, or None when it is not there or can't be read."""
        path = self._directory / "attestations" / _owned(digest.hex, name)
        try:
            return read_file(path, limit=MAX_ATTESTATIONS_SIZE)
        except (FileNotFoundError, StorageError):
            return None

    def keep_attestations(
        self, name: ReleaseName, found: Mapping[Digest, bytes]
    ) -> None:
        """Write copies; others give way. A disk that refuses costs a download."""
        directory = self._directory / "attestations"
        with (
            suppress(StorageError),
            DirectoryLock(self._directory, timeout=LOCK_TIMEOUT),
        ):
            make_directory(directory, mode=0o700)
            clean_temporary(directory)
            for digest, data in found.items():
                path = directory / _owned(digest.hex, name)
                write_file(path, data, mode=0o600)
            _prune(directory, MAX_ATTESTATIONS_SIZE)

    def _path(self, name: str) -> Path:
        if len(name) == 64 and set(name) <= set("0123456789abcdef"):
            return self._directory / "targets" / name
        return self._directory / "metadata" / file_name(name, None)

    def commit(
        self,
        change: Callable[[Memory], Memory | None],
        files: Mapping[str, bytes],
        targets: Mapping[str, bytes],
    ) -> Memory:
        """Write copies, then the changed memory, under the lock."""
        with DirectoryLock(self._directory, timeout=LOCK_TIMEOUT):
            current, _ = self._read()
            after = change(current)
            clean_temporary(self._directory)
            for kind, copies in (("metadata", files), ("targets", targets)):
                # Losing a copy costs a download; it never stops a device.
                with suppress(StorageError):
                    self._write_copies(kind, copies)
            if after is None or after == current:
                return current
            after = replace(after, sequence=current.sequence + 1)
            # Copies first: one that is newer than the memory is judged anew.
            _write_memory(self._directory, after)
            return after

    def _write_copies(self, kind: str, files: Mapping[str, bytes]) -> None:
        if not files:
            return
        directory = self._directory / kind
        make_directory(directory, mode=0o700)
        clean_temporary(directory)
        for name, data in files.items():
            path = directory / name if kind == "targets" else self._path(name)
            write_file(path, data, mode=0o600)
        if kind == "targets":
            _prune(directory, MAX_COPIES_SIZE)


def _owned(name: str, owner: ReleaseName) -> str:
    """Return what an application's copy is called."""
    # The owner's name itself may be too long for a file.
    return f"{name}.{sha256(str(owner).encode()).hexdigest()[:16]}"


def _prune(directory: Path, most: int) -> None:
    """Remove what is too much: of the application that has the most, the oldest.

    What one application's key lists takes no room from another, which may be asked for
    where there is no network. Copies from before they had an owner are one more share.
    """
    found = [(one.lstat(), one) for one in directory.iterdir()]
    found.sort(key=lambda one: one[0].st_mtime_ns, reverse=True)
    kept: dict[str, list[tuple[int, Path]]] = {}
    sizes: dict[str, int] = {}
    for status, path in found:
        kept.setdefault(path.suffix, []).append((status.st_size, path))
        sizes[path.suffix] = sizes.get(path.suffix, 0) + status.st_size
    counts = {owner: len(copies) for owner, copies in kept.items()}
    while True:
        if sum(sizes.values()) > most:
            share = sizes
        elif sum(counts.values()) > MAX_COPIES:
            share = counts
        else:
            return
        owner = max(share, key=share.__getitem__)
        size, path = kept[owner].pop()
        sizes[owner] -= size
        counts[owner] -= 1
        remove_file(path)


class _Volatile:
    """Memory and copies in this process only."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._copies: dict[str, bytes] = {}

    def load(self) -> Memory:
        return self._memory

    def copy(self, name: str) -> bytes | None:
        return self._copies.get(name)

    def target(self, owned: str) -> bytes | None:
        return self._copies.get(owned)

    def attestation(self, name: ReleaseName, digest: Digest) -> bytes | None:
        del name, digest
        return None

    def keep_attestations(
        self, name: ReleaseName, found: Mapping[Digest, bytes]
    ) -> None:
        del name, found  # large, and asked for once: the process ends with the question

    def commit(
        self,
        change: Callable[[Memory], Memory | None],
        files: Mapping[str, bytes],
        targets: Mapping[str, bytes],
    ) -> Memory:
        after = change(self._memory)
        self._copies.update(files)
        self._copies.update(targets)
        if after is not None:
            self._memory = replace(after, sequence=self._memory.sequence + 1)
        return self._memory
