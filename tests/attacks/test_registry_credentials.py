"""T-52: a registry, or what stands before it, wants credentials of others."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import FetchError
from margo_supplychain.transport.network import RegistryAccess
from tests.attacks.standing import refused
from tests.registries import lies
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import plant_on, quick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.plant import Plant

LOGIN: Final = ("plant", "insecure-password")


@pytest.fixture
def mallory() -> Iterator[HostileRegistry]:
    """A server of hers, which records who comes and with what."""
    with HostileRegistry() as server:
        yield server


@pytest.fixture
def plant(tmp_path: Path, mallory: HostileRegistry) -> Iterator[Plant]:
    """A plant whose registry wants a login; Mallory has a copy of what it holds."""
    with HostileRegistry() as registry:
        registry.login, registry.tokens = LOGIN, True
        said = base64.b64encode(":".join(LOGIN).encode()).decode()
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {registry.host: {"auth": said}}}))
        mallory.holdings = registry.holdings
        yield plant_on(registry, tmp_path, network=quick(docker_config=config))


def shown_to(server: HostileRegistry) -> list[set[str]]:
    return [one.secrets for one in server.seen if one.secrets]


def test_redirects_to_another_host(plant: Plant, mallory: HostileRegistry) -> None:
    """Mallory answers each request with a redirect to a server of hers; the device may
    go there, for bytes are verified, but shows nothing of itself."""
    plant.release("1.2.0")
    assert plant.device.version() == "1.2.0"
    plant.release("1.3.0")
    plant.registry.lies("GET /v2/", lies.redirect(mallory.url))
    assert plant.device.install() == "1.3.0"
    assert mallory.seen
    assert shown_to(mallory) == []


def test_redirects_to_another_host_that_asks_for_the_login(
    plant: Plant, mallory: HostileRegistry
) -> None:
    """Likewise, and her server asks for the password there."""
    mallory.login = LOGIN
    plant.release("1.2.0")
    plant.registry.lies("GET /v2/", lies.redirect(mallory.url))
    for mallory.tokens in (False, True):
        with refused(plant.device, FetchError, "fetch", match="401"):
            plant.device.verify()
    assert shown_to(mallory) == []
    assert not mallory.asked("/token")
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_token_server_elsewhere(plant: Plant, mallory: HostileRegistry) -> None:
    """Mallory names a token server on another host; no password goes there."""
    mallory.login = LOGIN
    plant.release("1.2.0")
    plant.registry.expire_tokens()
    # Another name than the registry's; nobody even looks it up.
    plant.registry.realm = f"https://tokens.mallory.example:{mallory.server_port}/token"
    with refused(plant.device, FetchError, "fetch", match="token|realm|401"):
        plant.device.verify()
    assert mallory.seen == []
    assert not plant.registry.asked("/token")
    plant.registry.realm = f"{plant.registry.url}/token"
    assert plant.device.install() == "1.2.0"


def test_client_certificate_for_another_host(
    tmp_path: Path, mallory: HostileRegistry
) -> None:
    """Mallory sends a device with a client certificate to a server that asks for
    one; it is shown to its own registry alone."""
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("device")
    contexts = [authority.server_context(ask_client=True) for _ in range(2)]
    with (
        HostileRegistry(contexts[0]) as registry,
        HostileRegistry(contexts[1]) as elsewhere,
    ):
        elsewhere.holdings = registry.holdings
        access = RegistryAccess(
            ca_file=authority.file, certificate=pair.certificate, private_key=pair.key
        )
        network = quick(registries={registry.host: access}, ca_file=authority.file)
        plant = plant_on(registry, tmp_path, network=network)
        plant.release("1.2.0")
        assert plant.device.version() == "1.2.0"
        assert registry.seen[-1].secrets == {"client certificate"}
        plant.release("1.3.0")
        registry.lies("GET /v2/", lies.redirect(elsewhere.url))
        assert plant.device.install() == "1.3.0"
        assert elsewhere.seen
        assert shown_to(elsewhere) == []
        registry.is_honest_again()
        plant.release("1.4.0")
        # And never from https to http.
        registry.lies("GET /v2/", lies.redirect(mallory.url))
        with refused(plant.device, FetchError, "fetch", match="not followed"):
            plant.device.verify()
        assert mallory.seen == []
