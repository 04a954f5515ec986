"""The tiny repository that agents' own tests start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.errors import WithdrawnError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, NOW
from tests.world import FixedClock

if TYPE_CHECKING:
    from pathlib import Path

ANY = Pin.range("*", grammar="npm")


def test_tiny_repository(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    tiny = tiny_repository(tmp_path, clock=clock)
    store = TrustStore.create(
        tmp_path / "state", root=tiny.root, publishers=frozenset({tiny.publisher})
    )
    verifier = Verifier(
        store=store,
        source=tiny.source(),
        content=tiny.content_sources(),
        policy=DEVICE_POLICY,
        clock=clock,
    )
    release = verifier.verify(tiny.name, Pin.exact(tiny.version))
    assert release.manifest == tiny.artifact
    content = verifier.fetch(release, tmp_path / "content")
    with content.open(Digest.of(tiny.content)) as stream:
        assert stream.read() == tiny.content
    newer = tiny.publish("1.1.0", b"pump monitor 1.1.0")
    assert verifier.verify(tiny.name, ANY).manifest == newer
    tiny.withdraw("1.1.0", reason="leaks")
    with pytest.raises(WithdrawnError, match=r"1\.1\.0 is withdrawn: leaks"):
        verifier.verify(tiny.name, Pin.range("^1.1", grammar="npm"))
