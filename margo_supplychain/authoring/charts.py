"""Helm charts: packed by Helm, taken as they are, wrapped as `helm push` does.

Of the two forms in use (Margo's proposal and Helm's own) the second is written, because
every Helm reads it: `config.mediaType` `application/vnd.cncf.helm.config.v1+json` with
the chart's metadata as JSON, one layer with the chart, one with its provenance file if
there is one, no `artifactType`. `helm push` adds the time of day, so its manifest has
another digest each time: a chart that was pushed by Helm is named in `components.lock`
and not wrapped again.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import ApplicationFormatError, UnsafeArchiveError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.archives import check_helm_chart
from margo_supplychain.formats.oci import (
    HELM_CONFIG,
    HELM_LAYER,
    HELM_PROVENANCE,
    MANIFEST,
    TITLE,
    Layer,
    manifest_bytes,
)
from margo_supplychain.formats.yaml_positions import parse_yaml

if TYPE_CHECKING:
    from margo_supplychain.authoring.contents import Contents
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.yaml_positions import Node

_VERSION: Final = "org.opencontainers.image.version"


class Chart(NamedTuple):
    """What a chart's `Chart.yaml` says of it."""

    name: str
    version: str
    api_version: str | None
    metadata: dict[str, Any]


def read_chart(data: bytes, *, shown: str) -> Chart:
    """Check a packed chart and return what it says of itself.

    Args:
        data: the `.tgz`, unverified.
        shown: what it is called in errors.

    Raises:
        ApplicationFormatError: a device would refuse the archive, or its `Chart.yaml`
            is not YAML or has no name or version.
    """
    try:
        archive = check_helm_chart(io.BytesIO(data))
    except UnsafeArchiveError as why:
        raise ApplicationFormatError(f"{shown}: {why}") from why
    what = f"{shown}:{archive.top}/Chart.yaml"
    root = parse_yaml(archive.main, what=what)
    metadata = _plain(root)
    if not isinstance(metadata, dict):
        raise ApplicationFormatError(f"{what} is {root.shown}, expected a mapping")
    for key in ("name", "version"):
        if not isinstance(metadata.get(key), str):
            raise ApplicationFormatError(f"{what} has no {key}")
    if metadata["name"] != archive.top:
        raise ApplicationFormatError(
            f"{what} has name {metadata['name'][:80]!r}, expected the directory's, "
            f"{archive.top!r}"
        )
    api_version = metadata.get("apiVersion")
    return Chart(
        name=metadata["name"],
        version=metadata["version"],
        api_version=api_version if isinstance(api_version, str) else None,
        metadata=metadata,
    )


def wrap_chart(
    data: bytes, chart: Chart, provenance: bytes | None, contents: Contents
) -> Descriptor:
    """Put a chart and its manifest into `contents`; return the manifest."""
    config = contents.add(strict_json.canonical(chart.metadata), HELM_CONFIG)
    layers = [Layer(descriptor=contents.add(data, HELM_LAYER))]
    if provenance is not None:
        layers.append(Layer(descriptor=contents.add(provenance, HELM_PROVENANCE)))
    manifest = manifest_bytes(
        artifact_type=None,
        config=config,
        layers=layers,
        annotations={TITLE: chart.name, _VERSION: chart.version},
    )
    return contents.add(manifest, MANIFEST)


def _plain(node: Node) -> Any:
    # Helm's metadata is text and booleans; an unquoted `appVersion: 1.27` is text too.
    if node.kind == "mapping":
        inner = {key: _plain(value) for key, value in node.members.items()}
        return {key: value for key, value in inner.items() if value is not None}
    if node.kind == "list":
        return [_plain(item) for item in node.items]
    if node.kind == "boolean":
        return node.text.lower() == "true"
    return None if node.kind == "empty" else node.text
