"""A tiny real repository, for the tests of agents that embed the verifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRepository:
    """A repository with one publisher, one application and one release.

    Args:
        directory: a `Source` for it is `open_source(str(directory))`.
        root: exact bytes of `1.root.json`, for `TrustStore.create`.
        content: the bytes of the artifact's only layer.
        offline, online: throw-away keys, in memory only.
    """

    directory: Path
    root: bytes
    publisher: str
    name: ReleaseName
    version: Version
    artifact: Descriptor
    content: bytes
    repository: Repository
    offline: Signer
    online: Signer

    def publish(self, version: str, content: bytes) -> Descriptor:
        """Publish one more release of the application; return its artifact."""
        raise NotImplementedError


def tiny_repository(directory: Path, *, clock: Clock | None = None) -> TinyRepository:
    """Make a tiny repository below a new or empty `directory`."""
    raise NotImplementedError
