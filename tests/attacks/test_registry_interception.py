"""T-57: an inspecting proxy, trusted for TLS, changes what passes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    VerificationError,
)
from margo_supplychain.transport.network import RegistryAccess
from tests.attacks.standing import refused, require_true_names, stands
from tests.registries.between import Between
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import plant_on, quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.registries.plant import Plant


class Site(NamedTuple):
    """A plant behind a company's proxy, whose authority its devices trust."""

    plant: Plant
    proxy: Between


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with its own plant, in which 1.2.0 waits."""
    with site_in(tmp_path) as site:
        yield site


@contextmanager
def site_in(directory: Path) -> Iterator[Site]:
    vendor = Authority(directory / "vendor", "vendor")
    company = Authority(directory / "company", "company")
    with (
        HostileRegistry(vendor.server_context()) as registry,
        Between(authority=company, upstream_ca=vendor.file) as proxy,
    ):
        access = RegistryAccess(ca_file=company.file, proxy=proxy.url)
        network = quick(registries={registry.host: access})
        plant = plant_on(registry, directory, network=network)
        assert len(proxy.passed) > 10
        plant.release("1.2.0")
        proxy.passed.clear()
        yield Site(plant, proxy)


def test_everything_passes_the_proxy(site: Site) -> None:
    """An honest inspecting proxy disturbs nothing, and sees every request."""
    assert site.plant.device.install() == "1.2.0"
    seen = [(one.method, one.path) for one in site.plant.registry.seen]
    passed = [(one.method, one.path) for one in site.proxy.passed]
    assert seen[-len(passed) :] == passed


def test_proxy_whose_authority_is_not_trusted(site: Site, tmp_path: Path) -> None:
    """Mallory's proxy shows a certificate of her own: it gets no request at all, and
    the device lives on what it has, as long as that is valid."""
    device, host = site.plant.device, site.plant.registry.host
    assert device.version("acme/pump-monitor", "<=1.1.0") == "1.1.0"
    right, memory = device.network, device.memory
    other = Authority(tmp_path / "mallory", "mallory")
    access = RegistryAccess(ca_file=other.file, proxy=site.proxy.url)
    site.proxy.passed.clear()
    device.network = quick(registries={host: access})
    device.clock.advance(days=5)
    with refused(device, FetchError, "fetch", match="certificate|reached"):
        device.verify()
    device.clock.advance(days=-5)
    assert site.proxy.passed == []
    assert device.memory == memory
    device.network = right
    assert device.install() == "1.2.0"


def test_any_answer_is_changed(tmp_path: Path) -> None:
    """Mallory changes one bit of one answer, each in turn, from the first root to the
    last layer: the device never takes anything but what was signed."""
    with site_in(tmp_path / "honest") as site:
        assert site.plant.device.install() == "1.2.0"
        answers = len(site.proxy.passed)
        # Root, timestamp, snapshot, role, record, manifest, layer.
        assert answers >= 7
        wanted = stands(site.plant.device)["offered"]
    with site_in(tmp_path / "changed") as site:
        plant, proxy = site
        fresh = plant.device.copy(tmp_path / "fresh")
        outcomes = []
        for number in range(answers):
            device = fresh.copy(tmp_path / f"device-{number}")
            proxy.passed.clear()
            proxy.change = _one_bit(proxy, number)
            before = stands(device)
            try:
                assert device.install() == "1.2.0"
            except (VerificationError, InconclusiveError) as why:
                assert stands(device) == before
                outcomes.append(why.code)
            else:
                # The bit was in what nobody reads, such as an annotation.
                assert stands(device)["offered"] == wanted
                outcomes.append("taken")
            require_true_names(device)
            proxy.change = None
            assert device.install() == "1.2.0"
        assert outcomes.count("taken") <= 1, outcomes


def _one_bit(proxy: Between, number: int) -> Callable[[str, bytes], bytes]:
    def change(path: str, body: bytes) -> bytes:
        del path
        # `passed` has this answer already.
        if len(proxy.passed) - 1 != number or not body:
            return body
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 4]) + body[middle + 1 :]

    return change
