"""What these tests know each registry by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_registry import RegistryRepository

if TYPE_CHECKING:
    from tests.registries.hostile import HostileRegistry

LOGIN: Final = ("plant", "insecure-password")
PATH: Final = "acme/app"
DATA: Final = bytes(range(256)) * 100
WHAT: Final = Descriptor.of(DATA, "application/octet-stream")
PLAIN: Final = manifest_bytes(
    artifact_type="application/wasm", layers=[Layer(descriptor=WHAT)]
)


def quick(**limits: Any) -> Network:
    """No pauses between tries, and short patience."""
    usual = {"connect_timeout": 5, "read_timeout": 2, "response_timeout": 5}
    return Network(**{**usual, "tries": 3, "longest_delay": 0, **limits})


def repository(
    server: HostileRegistry, *, path: str = PATH, **limits: Any
) -> RegistryRepository:
    """Open a repository of a registry of these tests."""
    reference = RegistryReference.parse(f"oci://{server.host}/{path}")
    return RegistryRepository(reference, network=quick(**limits))


def read(client: RegistryRepository, what: Descriptor = WHAT) -> bytes:
    """Return a blob, unverified."""
    with client.open_blob(what) as stream:
        return stream.read()
