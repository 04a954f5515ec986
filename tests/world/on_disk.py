"""A `World`'s files on disk, as its publisher's web server would serve them.

metadata/7.acme.json   targets/<dir>/HASH.<file>   oci-layout, index.json, blobs/
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from margo_supplychain.formats.oci import index_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.sources import Files


def write_files(files: Files, directory: Path) -> Path:
    """Write exactly these files below `directory`, in place of what is there."""
    if directory.exists():
        shutil.rmtree(directory)
    found = {f"metadata/{name}": data for name, data in files.metadata.items()}
    for (path, sha256), data in files.targets.items():
        folder, _, name = path.rpartition("/")
        found[f"targets/{folder}/{sha256}.{name}"] = data
    for digest, data in files.blobs.items():
        algorithm, _, value = digest.partition(":")
        found[f"blobs/{algorithm}/{value}"] = data
    found["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    found["index.json"] = index_bytes(())
    for name, data in found.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return directory
