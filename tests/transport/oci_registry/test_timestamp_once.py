"""A write of the one tag that moves is never repeated blindly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.registry_form import TIMESTAMP_TAG
from tests.registries import lies
from tests.transport.oci_registry.logins import PATH, PLAIN, repository

if TYPE_CHECKING:
    from tests.registries.hostile import HostileRegistry, Lie


@pytest.mark.parametrize("lie", [lies.hangs_up, lies.status(503)])
def test_timestamp_is_sent_once(server: HostileRegistry, lie: Lie) -> None:
    """What the network held back may still come, when somebody else has moved it."""
    where = f"PUT /v2/{PATH}/manifests/{{}}"
    here = repository(server)
    for tag in (TIMESTAMP_TAG, "1.root"):
        server.lies(where.format(tag), lie, times=1)
    with pytest.raises(FetchError):
        here.put_manifest(PLAIN, MANIFEST, tag=TIMESTAMP_TAG)
    assert len(server.asked(where.format(TIMESTAMP_TAG))) == 1
    here.put_manifest(PLAIN, MANIFEST, tag="1.root")  # no other name ever moves
    assert len(server.asked(where.format("1.root"))) == 2
