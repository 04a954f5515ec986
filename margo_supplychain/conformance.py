r"""The TUF conformance client: the device's code path, for any TUF repository.

Speaks the protocol of the TUF conformance suite, so that others can judge the workflow:

    client --metadata-dir DIR init TRUSTED_ROOT
    client --metadata-dir DIR --metadata-url URL refresh
    client --metadata-dir DIR --metadata-url URL --target-name PATH ... \\
        --target-dir DIR --target-base-url URL download

Exit status 0 is complete success, 1 anything else. Held to the specification alone
(`Demand.TUF`): unlike a device, it takes repositories without hashes in their snapshot
or without signed times. Trusted metadata lies in DIR under non-versioned names, the
memory in a subdirectory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote

from margo_supplychain.errors import FetchError, FormatError, SupplyChainError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.durable import (
    make_directory,
    open_regular,
    read_file,
    remove_file,
    write_file,
)
from margo_supplychain.storage.receive import check_stream, receive
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.verify.clock import SystemClock
from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.search import find_target
from margo_supplychain.verify.trust_store import DiskState
from margo_supplychain.verify.workflow import Demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuf.api.metadata import TargetFile

_STATE: Final = "memory"
_LIMITS: Final = Limits()
_NOBODY: Final = frozenset({"conformance"})


class _Parser(argparse.ArgumentParser):
    """Exits with 1, the only failure that the protocol knows."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message}\n")


class Client:
    """One run of the protocol over a metadata directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state = DiskState(directory / _STATE)

    def init(self, root: Path) -> None:
        """Begin anew from a trusted root; it is judged at the next refresh."""
        data = read_file(root, limit=_LIMITS.root)
        make_directory(self._directory / _STATE)
        for one in [*self._directory.glob("*.json"), *self._old_memory()]:
            remove_file(one)
        self._state.begin(Memory(root=data, publishers=_NOBODY))
        self._put("root", data)

    def _old_memory(self) -> list[Path]:
        return [one for one in (self._directory / _STATE).iterdir() if one.is_file()]

    def _put(self, role: str, data: bytes) -> None:
        write_file(self._directory / file_name(role, None), data)

    def _copy(self, role: str) -> bytes | None:
        try:
            path = self._directory / file_name(role, None)
            return read_file(path, limit=_LIMITS.targets)
        except (OSError, SupplyChainError):
            return None

    def refresh(self, source: HttpSource) -> Walk:
        """Run the client workflow for the top-level roles."""
        walk = self._walk(source)
        try:
            walk.top_level()
        finally:
            self._keep(walk)
        if walk.offline:
            # A device lives on with what it has; here that is no refresh.
            raise FetchError(
                f"can't reach {source.url}", url=source.url, unreachable=True
            )
        return walk

    def download(
        self, source: HttpSource, names: Sequence[str], directory: Path
    ) -> None:
        """Refresh, then fetch and verify targets in order."""
        walk = self.refresh(source)
        for name in names:
            try:
                file = find_target(walk, name, max_delegations=_LIMITS.delegations)
            finally:
                self._keep(walk)
            self._fetch(walk, source, file, directory / quote(name, safe=""))

    def _walk(self, source: HttpSource) -> Walk:
        return Walk(
            self._state.load(),
            self._copy,
            source,
            demand=Demand.TUF,
            limits=_LIMITS,
            clock=SystemClock(),
            budget=Budget(None),
        )

    def _keep(self, walk: Walk) -> None:
        for role, data in walk.accepted.items():
            self._put(role, data)
        memory = walk.workflow.memory
        self._state.commit(lambda _: memory, {}, {})

    def _fetch(
        self, walk: Walk, source: HttpSource, file: TargetFile, to: Path
    ) -> None:
        path = target_path(file.path)
        whats = [
            Descriptor(
                media_type="application/octet-stream",
                digest=Digest(algorithm, value),
                size=file.length,
            )
            for algorithm, value in file.hashes.items()
        ]
        if not whats:
            raise FormatError(f"{path} is listed without a hash")
        if not _holds(to, whats):
            if to.exists():
                remove_file(to)
            opened = (
                source.target(path, whats[0])
                if walk.workflow.root.signed.consistent_snapshot
                else source.plain_target(path, whats[0])
            )
            with opened as stream:
                receive(to, whats[0], stream, subject=path)
            if not _holds(to, whats):
                remove_file(to)
                raise FormatError(f"{path} fits one of its hashes and not another")


def _holds(path: Path, whats: Sequence[Descriptor]) -> bool:
    try:
        for what in whats:
            with open_regular(path) as file:
                check_stream(what, file, subject=str(path))
    except (OSError, SupplyChainError):
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, 0 or 1."""
    parser = _Parser(prog="python -m margo_supplychain.conformance")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init").add_argument("trusted_root", type=Path)
    verbs.add_parser("refresh")
    verbs.add_parser("download")
    found = parser.parse_args(arguments)
    client = Client(found.metadata_dir)
    try:
        if found.verb == "init":
            client.init(found.trusted_root)
            return 0
        if found.metadata_url is None:
            parser.error("--metadata-url is missing")
        base = found.target_base_url or found.metadata_url
        source = HttpSource(found.metadata_url, base)
        if found.verb == "refresh":
            client.refresh(source)
            return 0
        if found.target_dir is None or not found.target_name:
            parser.error("--target-dir or --target-name is missing")
        client.download(source, found.target_name, found.target_dir)
    except (SupplyChainError, OSError) as why:
        sys.stderr.write(f"error: {why} [{getattr(why, 'code', 'os')}]\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
