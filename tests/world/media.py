"""A `World`'s files as they travel on a stick: an OCI image layout, or a tar of one."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING

from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.oci import INDEX_TYPES, MANIFEST_TYPES
from margo_supplychain.transport.opening import open_sink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.sources import Files

TIMESTAMP = "timestamp.json"


def put_files(files: Files, url: str | Path) -> None:
    """Put exactly these files where `url` says, in the order that a copy has."""
    sink = open_sink(url)
    for data in files.blobs.values():
        sink.put_blob(Descriptor.of(data, media_type_of(data)), io.BytesIO(data))
    for (path, sha256), data in files.targets.items():
        assert hashlib.sha256(data).hexdigest() == sha256
        what = Descriptor.of(data, "application/json")
        sink.put_target(target_path(path), what, io.BytesIO(data))
    for name in sorted(files.metadata, key=lambda one: one == TIMESTAMP):
        sink.put_metadata(name, files.metadata[name])
    sink.close()


def media_type_of(data: bytes) -> str:
    """Return the media type of a manifest or index, or that of any bytes."""
    try:
        found = json.loads(data).get("mediaType")
    except (ValueError, AttributeError):
        found = None
    is_manifest = found in MANIFEST_TYPES | INDEX_TYPES
    return str(found) if is_manifest else "application/octet-stream"
