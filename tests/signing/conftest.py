"""Keys for the tests, made once: what costs time is generating RSA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.signing.keyring import generate_key
from margo_supplychain.signing.keys import SCHEMES
from tests.signing.asking import PASSPHRASE, Asked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One key file of each scheme; read only."""
    directory = tmp_path_factory.mktemp("keys")
    files = {scheme: directory / f"{scheme}.key" for scheme in SCHEMES}
    for scheme, path in files.items():
        generate_key(str(path), scheme=scheme, pin=Asked(PASSPHRASE))
    return files
