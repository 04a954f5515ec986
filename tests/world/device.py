"""A device with a store on disk, a clock of its own, and a source to ask."""

from __future__ import annotations

import copy
import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.world.sources import MemorySource

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.verify.clock import Freshness
    from margo_supplychain.verify.memory import Memory
    from margo_supplychain.verify.results import VerifiedContent, VerifiedRelease
    from tests.world.sources import Files

SIGNED = b'[policy."*/*"]\nrequire = ["signed"]\n'


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, when: datetime) -> None:
        self.when = when

    def now(self) -> datetime:
        return self.when

    def advance(self, **amount: float) -> None:
        self.when += timedelta(**amount)


class Device:
    """What runs on the factory floor."""

    def __init__(
        self,
        state: Path,
        files: Files,
        clock: FixedClock,
        *,
        root: bytes | None = None,
        publishers: frozenset[str] = frozenset({"acme"}),
        policy: bytes = SIGNED,
    ) -> None:
        # Each device keeps its stores side by side in a directory of its own.
        self.state = state / "store"
        self.source = MemorySource(files)
        self.clock = clock
        self.policy = policy
        self.limits = Limits()
        # Where content is looked for, best first; a test may add a mirror.
        self.contents = [self.source]
        self.staging = state / "staging"
        if root is None:
            root = files.metadata["1.root.json"]
        TrustStore.create(self.state, root=root, publishers=publishers)

    def copy(self, state: Path) -> Device:
        """Return the same device once more, in another directory."""
        other = copy.copy(self)
        shutil.copytree(self.state.parent, state)
        other.state = state / self.state.name
        other.staging = state / self.staging.name
        other.clock = FixedClock(self.clock.when)
        other.source = MemorySource(self.source.files.copy())
        other.contents = [other.source]
        return other

    @property
    def verifier(self) -> Verifier:
        """A new verifier over the state on disk, as after a restart."""
        return Verifier(
            store=TrustStore.open(self.state),
            source=self.source,
            content=self,
            policy=Policy.from_toml(self.policy),
            clock=self.clock,
            limits=self.limits,
        )

    def sources(self, locations: object) -> list[MemorySource]:
        """Be the `ContentSources` of its verifiers."""
        del locations
        return self.contents

    @property
    def memory(self) -> Memory:
        """What is remembered on disk."""
        return TrustStore.open(self.state).load()

    @property
    def trusted(self) -> dict[str, int]:
        """Versions that the device trusts: what an attack must not move."""
        memory = self.memory
        versions = {
            "root": TrustStore.open(self.state).status().root,
            "timestamp": memory.timestamp.version if memory.timestamp else 0,
            "snapshot": memory.snapshot.version if memory.snapshot else 0,
        }
        if memory.snapshot is not None:
            for name, floor in memory.snapshot.roles.items():
                versions[name.removesuffix(".json")] = floor.version
        return versions

    def refresh(self) -> Freshness:
        return self.verifier.refresh()

    def verify(
        self,
        name: str = "acme/pump-monitor",
        pin: str = "*",
        *,
        slot: str = "default",
    ) -> VerifiedRelease:
        return self.verifier.verify(
            ReleaseName.parse(name), Pin.parse_argument(pin), slot=slot
        )

    def version(self, name: str = "acme/pump-monitor", pin: str = "*") -> str:
        """Return the version that a pin takes."""
        return str(self.verify(name, pin).version)

    def fetch(
        self,
        name: str = "acme/pump-monitor",
        pin: str = "*",
        *,
        slot: str = "default",
    ) -> VerifiedContent:
        verifier = self.verifier
        release = verifier.verify(
            ReleaseName.parse(name), Pin.parse_argument(pin), slot=slot
        )
        return verifier.fetch(release, self.staging)

    def install(
        self,
        name: str = "acme/pump-monitor",
        pin: str = "*",
        *,
        slot: str = "default",
    ) -> str:
        """Verify, fetch and confirm, as an agent does; return the version."""
        content = self.fetch(name, pin, slot=slot)
        self.verifier.confirm_running(content.release.manifest.digest, slot=slot)
        return str(content.release.version)
