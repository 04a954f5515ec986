"""Who opens no oci:// URL does not load oras-py, nor requests."""

from __future__ import annotations

import pytest

from tests.cli.test_device_light import loaded_by
from tests.transport.liar import Liar

HEAVY = {"oras", "requests", "jsonschema", "margo_supplychain.transport.oci_registry"}
READ = """
from margo_supplychain import open_source
from margo_supplychain.formats import references
source = open_source({url!r})
assert source.metadata("timestamp.json", limit=100) == b"{{}}"
"""


@pytest.mark.parametrize("kind", ["https", "directory"])
def test_other_sources_load_no_oras_py(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trust")
    (folder / "metadata").mkdir()
    (folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    with Liar() as server:
        server.serves("/metadata/timestamp.json", b"{}")
        url = server.url if kind == "https" else str(folder)
        loaded = loaded_by(READ.format(url=url), folder)
    assert loaded & HEAVY == set()
    assert ("urllib3" in loaded) == (kind == "https")
