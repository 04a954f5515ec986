"""Our workflow and python-tuf's `Updater`, asked the same of the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from margo_supplychain.errors import SupplyChainError, UnknownTargetError
from margo_supplychain.verify.clock import SystemClock
from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.search import find_target
from margo_supplychain.verify.workflow import Demand
from tests.world import MemorySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tuf.api.metadata import TargetFile

    from tests.world import Files

BASE = "https://memory.example/"


class FilesFetcher(FetcherInterface):
    """Gives python-tuf the served files."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        # File names hold percent-encoded role names; the URL encodes them once more.
        name = url.removeprefix(f"{BASE}metadata/")
        data = self.files.metadata.get(name) or self.files.metadata.get(unquote(name))
        if data is None:
            raise DownloadHTTPError(f"no {name}", 404)
        yield data


class Theirs:
    """python-tuf 7, one `Updater` per refresh, its cache on disk."""

    def __init__(self, files: Files, directory: Path) -> None:
        self.fetcher = FilesFetcher(files)
        self.directory = directory
        self.directory.mkdir(parents=True)
        self._bootstrap: bytes | None = files.metadata["1.root.json"]
        self.updater: Updater | None = None

    def refresh(self) -> dict[str, int] | str:
        """Return trusted versions, or the error's class name."""
        self.updater = Updater(
            str(self.directory),
            f"{BASE}metadata/",
            fetcher=self.fetcher,
            config=UpdaterConfig(max_root_rotations=64),
            bootstrap=self._bootstrap,
        )
        self._bootstrap = None
        try:
            self.updater.refresh()
        except (RepositoryError, DownloadHTTPError) as why:
            return type(why).__name__
        trusted = self.updater._trusted_set
        return {
            "root": trusted.root.version,
            "timestamp": trusted.timestamp.version,
            "snapshot": trusted.snapshot.version,
            "targets": trusted.targets.version,
        }

    def find(self, path: str) -> TargetFile | str | None:
        if self.updater is None:
            raise RuntimeError("refresh first")
        try:
            return self.updater.get_targetinfo(path)
        except (RepositoryError, DownloadHTTPError) as why:
            return type(why).__name__


class Ours:
    """The device's workflow, held to the specification or to Margo's demands."""

    def __init__(self, files: Files, demand: Demand = Demand.TUF) -> None:
        self.source = MemorySource(files)
        self.demand = demand
        self.memory = Memory(
            root=files.metadata["1.root.json"], publishers=frozenset({"acme"})
        )
        self.copies: dict[str, bytes] = {}
        self.walk: Walk | None = None

    def refresh(self) -> dict[str, int] | str:
        """Return trusted versions, or the error's code."""
        self.walk = walk = Walk(
            self.memory,
            self.copies.get,
            self.source,
            demand=self.demand,
            limits=Limits(),
            clock=SystemClock(),
            budget=Budget(None),
        )
        try:
            walk.top_level()
            self.memory = walk.workflow.complete()
        except SupplyChainError as why:
            self.memory = walk.workflow.memory
            return why.code
        finally:
            self.copies.update(walk.accepted)
        workflow = walk.workflow
        return {
            "root": workflow.root.version,
            "timestamp": workflow.timestamp.version if workflow.timestamp else 0,
            "snapshot": workflow.snapshot.version if workflow.snapshot else 0,
            "targets": workflow.roles["targets"].version,
        }

    def find(self, path: str) -> TargetFile | str | None:
        if self.walk is None:
            raise RuntimeError("refresh first")
        try:
            return find_target(self.walk, path, max_delegations=32)
        except UnknownTargetError as why:
            # The name itself is unknown, or a delegated role is not in the snapshot.
            return None if why.name == path else why.code
        except SupplyChainError as why:
            return why.code
        finally:
            self.copies.update(self.walk.accepted)
