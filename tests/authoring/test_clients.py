"""Other TUF clients read what is written: python-tuf's Updater, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tuf.ngclient import Updater

from margo_supplychain.formats.record import ReleaseRecord
from tests.authoring.clients import FileFetcher
from tests.authoring.trust import PUMP, Vendor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    # Updater reads the machine's clock.
    from margo_supplychain.verify.clock import SystemClock

    vendor = Vendor(tmp_path)
    vendor.clock.when = SystemClock().now()
    return vendor


def updater(vendor: Vendor) -> Updater:
    state = vendor.directory / "updater"
    state.mkdir(exist_ok=True)
    (vendor.directory / "downloads").mkdir(exist_ok=True)
    return Updater(
        metadata_dir=str(state),
        metadata_base_url="https://trust.example/metadata/",
        target_dir=str(vendor.directory / "downloads"),
        target_base_url="https://trust.example/targets/",
        fetcher=FileFetcher(vendor.trust),
        bootstrap=vendor.repository.root,
    )


@pytest.mark.parametrize("profile", ["small", "simple"])
def test_updater_follows_every_state(vendor: Vendor, profile: str) -> None:
    vendor.profile = profile
    vendor.create_with_pump()
    client = updater(vendor)
    client.refresh()
    for version in ("1.0.0", "1.1.0+build.7", "2.0.0-rc.1"):
        vendor.publish(version)
        client = updater(vendor)
        path = f"acme/releases/pump-monitor/{version.replace('+', '_')}"
        info = client.get_targetinfo(path)
        assert info is not None
        data = vendor.directory / "downloads" / "record"
        client.download_target(info, str(data))
        record = ReleaseRecord.parse(data.read_bytes())
        assert (str(record.version), record.name) == (version, PUMP)
        assert info.custom is not None
        assert info.custom["artifact"] == str(record.artifact.digest)
    assert client.get_targetinfo("acme/policies/pump-monitor/1.json") is not None
    assert client.get_targetinfo("acme/releases/pump-monitor/9.9.9") is None
