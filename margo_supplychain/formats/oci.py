"""OCI manifests and indexes: parsed strictly, built deterministically.

Knows the image-spec 1.1 documents, the media types of Margo packages and components,
and nothing of registries or files. What `parse_manifest` returns is well-formed; that
the content exists, or who made it, it does not say. Unknown members are ignored in
manifests and kept in index entries (image-spec, considerations.md, "Extensibility").
How deep indexes may nest is the caller's business.

Example:
    >>> data = manifest_bytes(
    ...     artifact_type=MARGO_APPLICATION,
    ...     layers=[Layer(descriptor=EMPTY, title="margo.yaml")])
    >>> found = parse_manifest(data)
    >>> isinstance(found, Manifest) and found.kind
    'application/vnd.margo.app.v1+json'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.titles import folded, safe_title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
# Read, never written: images are still pushed with them.
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES: Final = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({INDEX, DOCKER_INDEX})

EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY_BYTES: Final = b"{}"
EMPTY: Final = Descriptor.of(EMPTY_BYTES, EMPTY_TYPE)

MARGO_APPLICATION: Final = "application/vnd.margo.app.v1+json"
MARGO_DESCRIPTION: Final = "application/vnd.margo.app.description.v1+yaml"
MARGO_RESOURCE_KINDS: Final = ("icon", "descriptionFile", "licenseFile", "releaseNotes")
COMPOSE_COMPONENT: Final = "application/vnd.org.margo.component.compose+json"
COMPOSE_LAYER: Final = "application/vnd.org.margo.component.compose.tar+gzip"
HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
HELM_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
# `helm push`, the Margo proposal, and Helm before 3.8 write three different types.
HELM_LAYERS: Final = frozenset(
    {
        HELM_LAYER,
        "application/vnd.cncf.helm.chart.content.layer.v1.tar+gzip",
        "application/tar+gzip",
    }
)
HELM_PROVENANCE: Final = "application/vnd.cncf.helm.chart.provenance.v1.prov"

TITLE: Final = "org.opencontainers.image.title"
REFERENCE_NAME: Final = "org.opencontainers.image.ref.name"
MARGO_RESOURCE: Final = "org.margo.app.resource"
COMPONENT_TYPE: Final = "org.margo.component.type"
COMPONENT_VERSION: Final = "org.margo.component.version"

MAX_MANIFEST: Final = 4 << 20  # what registries and other clients take
MAX_LAYERS: Final = 1024
MAX_ENTRIES: Final = 1024
# An entry of nothing but what it needs, platform and all, has 25 bytes for each value.
_SPREAD: Final = 20
_FORMATS: Final = {"jpg": "jpeg", "md": "markdown", "txt": "plain", "htm": "html"}
_NO_ANNOTATIONS: Final[Mapping[str, str]] = {}


class Layer(NamedTuple):
    """One layer of a manifest; `title` is its safe relative path, if it has one."""

    descriptor: Descriptor
    title: str | None = None
    annotations: Mapping[str, str] = _NO_ANNOTATIONS


class Manifest(NamedTuple):
    """An image manifest: at least one layer, no two titles that clash."""

    media_type: str
    artifact_type: str | None
    config: Descriptor
    layers: tuple[Layer, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The type of artifact: `artifactType`, else the config's media type."""
        return self.artifact_type or self.config.media_type


class Entry(NamedTuple):
    """One manifest that an index lists; `other` holds the members not named here."""

    descriptor: Descriptor
    artifact_type: str | None = None
    annotations: Mapping[str, str] = _NO_ANNOTATIONS
    other: Mapping[str, Any] = _NO_ANNOTATIONS

    @property
    def platform(self) -> str | None:
        """`os/architecture` or `os/architecture/variant`, if the entry names one."""
        found = self.other.get("platform")
        if found is None:
            return None
        parts = (found["os"], found["architecture"], found.get("variant"))
        return "/".join(part for part in parts if part)


class Index(NamedTuple):
    """An image index; only a layout's `index.json` may list nothing."""

    media_type: str
    artifact_type: str | None
    manifests: tuple[Entry, ...]
    subject: Descriptor | None
    annotations: Mapping[str, str]


def parse_manifest(data: bytes, *, what: str = "manifest") -> Manifest | Index:
    """Parse unverified bytes as an image manifest or a non-empty image index.

    Docker's schema 2 types are read as their OCI equivalents; `media_type` tells which.

    Raises:
        OciFormatError: above 4 MiB, not strict JSON, `schemaVersion` other than 2,
            both `layers` and `manifests`, nothing listed, wrong types, unsafe titles.
    """
    document = _document(data, what, MAX_MANIFEST)
    # A document with both can be read as either (CVE-2021-41190).
    if "manifests" in document and ("layers" in document or "config" in document):
        raise OciFormatError(f"{what} is a manifest and an index at once")
    stated = _text(document, "mediaType", what)
    if stated in INDEX_TYPES or (stated is None and "manifests" in document):
        index = _index(document, what, stated or INDEX)
        if not index.manifests:
            raise OciFormatError(f"{what} manifests is empty, expected at least one")
        if len(index.manifests) > MAX_ENTRIES:
            raise OciFormatError(f"{what} lists more than {MAX_ENTRIES} manifests")
        return index
    if stated is None or stated in MANIFEST_TYPES:
        return _manifest(document, what, stated or MANIFEST)
    raise OciFormatError(
        f"{what} mediaType is {stated[:160]!r}, expected an image manifest or index"
    )


def parse_layout_index(data: bytes, *, limit: int = 64 << 20) -> Index:
    """Parse unverified bytes as the `index.json` of an OCI layout; it may be empty.

    Raises:
        OciFormatError: as `parse_manifest`, or far more values than entries need.
    """
    what = "index.json"
    document = _document(data, what, limit, spread=_SPREAD)
    stated = _text(document, "mediaType", what)
    if stated not in (None, INDEX) or "layers" in document:
        raise OciFormatError(f"{what} is not an image index")
    return _index(document, what, INDEX)


def manifest_bytes(
    *,
    artifact_type: str | None,
    layers: Sequence[Layer],
    config: Descriptor = EMPTY,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] = _NO_ANNOTATIONS,
) -> bytes:
    """Return the deterministic bytes of an image manifest.

    Raises:
        OciFormatError: if `parse_manifest` would refuse them.
    """
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor_json(config),
        "layers": [_layer_json(layer) for layer in layers],
    }
    if config == EMPTY:
        # The Margo package format demands the empty config's bytes inline as well.
        document["config"]["data"] = "e30="
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if subject is not None:
        document["subject"] = _descriptor_json(subject)
    if annotations:
        document["annotations"] = dict(annotations)
    data = strict_json.canonical(document)
    parse_manifest(data)
    return data


def index_bytes(
    manifests: Iterable[Entry],
    *,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] = _NO_ANNOTATIONS,
) -> bytes:
    """Return the deterministic bytes of an image index, entries in the given order.

    An index of nothing is written too: a fresh layout's `index.json` is one.
    """
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [_entry_json(entry) for entry in manifests],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if annotations:
        document["annotations"] = dict(annotations)
    data = strict_json.canonical(document)
    parse_layout_index(data)
    return data


def resource_annotation(kind: str) -> str:
    """Return the value of `org.margo.app.resource`: the file's place in margo.yaml."""
    return f"metadata.catalog.application.{kind}"


def resource_type(kind: str, path: str) -> str:
    """Return the layer type of a package's resource file of one of Margo's kinds.

    >>> resource_type("icon", "resources/pump.jpg")
    'application/vnd.margo.app.icon.v1+jpeg'
    """
    name = path.rpartition("/")[2]
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    form = _FORMATS.get(suffix, suffix)
    if re.fullmatch(r"[a-z0-9]{1,16}", form, re.ASCII) is None:
        form = "octet-stream"
    return f"application/vnd.margo.app.{kind}.v1+{form}"


# --- reading -------------------------------------------------------------------------


def _document(
    data: bytes, what: str, limit: int, *, spread: int | None = None
) -> dict[str, Any]:
    document = strict_json.parse(
        data, what=what, limit=limit, error=OciFormatError, spread=spread
    )
    version = document.get("schemaVersion")
    # `True` and 2.0 can't get here: strict_json refuses fractions.
    if type(version) is not int or version != 2:
        raise OciFormatError(f"{what} schemaVersion is {version!r:.80}, expected 2")
    return document


def _manifest(document: Mapping[str, Any], what: str, media_type: str) -> Manifest:
    listed = _list(document, "layers", what)
    if not listed:
        raise OciFormatError(f"{what} layers is empty, expected at least one")
    if len(listed) > MAX_LAYERS:
        raise OciFormatError(f"{what} lists more than {MAX_LAYERS} layers")
    layers = tuple(
        _layer(value, f"{what} layers[{number}]") for number, value in enumerate(listed)
    )
    _check_titles(layers, what)
    return Manifest(
        media_type=media_type,
        artifact_type=_media_type(document, what),
        config=_descriptor(document.get("config"), f"{what} config"),
        layers=layers,
        subject=_subject(document, what),
        annotations=_annotations(document, what),
    )


def _index(document: Mapping[str, Any], what: str, media_type: str) -> Index:
    listed = _list(document, "manifests", what)
    return Index(
        media_type=media_type,
        artifact_type=_media_type(document, what),
        manifests=tuple(
            _entry(value, f"{what} manifests[{number}]")
            for number, value in enumerate(listed)
        ),
        subject=_subject(document, what),
        annotations=_annotations(document, what),
    )


def _layer(value: object, where: str) -> Layer:
    descriptor = _descriptor(value, where)
    annotations = _annotations(_object(value, where), where)
    title = annotations.get(TITLE)
    if title is not None:
        safe_title(title, f"{where} title")
    return Layer(descriptor=descriptor, title=title, annotations=annotations)


_ENTRY_MEMBERS: Final = frozenset(
    {"mediaType", "digest", "size", "annotations", "artifactType"}
)


def _entry(value: object, where: str) -> Entry:
    members = _object(value, where)
    platform = members.get("platform")
    if platform is not None:
        platform = _object(platform, f"{where} platform")
        for key in ("os", "architecture"):
            if not _text(platform, key, f"{where} platform"):
                raise OciFormatError(f"{where} platform has no {key}")
        _text(platform, "variant", f"{where} platform")
    return Entry(
        descriptor=_descriptor(value, where),
        artifact_type=_media_type(members, where),
        annotations=_annotations(members, where),
        other={k: v for k, v in members.items() if k not in _ENTRY_MEMBERS},
    )


def _descriptor(value: object, where: str) -> Descriptor:
    members = _object(value, where)
    media_type = _text(members, "mediaType", where)
    digest = _text(members, "digest", where)
    size = members.get("size")
    if media_type is None or digest is None or type(size) is not int:
        raise OciFormatError(
            f"{where} is no descriptor: expected mediaType, digest and a whole size",
            where=where,
        )
    try:
        return Descriptor(media_type=media_type, digest=Digest.parse(digest), size=size)
    except OciFormatError as why:
        raise OciFormatError(f"{where}: {why}", where=where) from why


def _subject(document: Mapping[str, Any], what: str) -> Descriptor | None:
    value = document.get("subject")
    return None if value is None else _descriptor(value, f"{what} subject")


def _annotations(members: Mapping[str, Any], where: str) -> Mapping[str, str]:
    value = members.get("annotations")
    if value is None:
        return {}
    found = _object(value, f"{where} annotations")
    for key, text in found.items():
        if not isinstance(text, str):
            raise OciFormatError(
                f"{where} annotation {key[:80]!r} is {text!r:.80}, expected text",
                where=where,
            )
    return found


def _media_type(members: Mapping[str, Any], where: str) -> str | None:
    value = _text(members, "artifactType", where)
    if not value:  # some tools write "" for none
        return None
    try:
        Descriptor(media_type=value, digest=EMPTY.digest, size=0)
    except OciFormatError as why:
        raise OciFormatError(f"{where} artifactType: {why}", where=where) from why
    return value


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OciFormatError(f"{where} is not an object", where=where)
    return value


def _list(members: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = members.get(key)
    if not isinstance(value, list):
        raise OciFormatError(f"{where} has no list of {key}", where=where)
    return value


def _text(members: Mapping[str, Any], key: str, where: str) -> str | None:
    value = members.get(key)
    if value is not None and not isinstance(value, str):
        raise OciFormatError(
            f"{where} {key} is {value!r:.80}, expected text", where=where
        )
    return value


def _check_titles(layers: Iterable[Layer], what: str) -> None:
    seen: dict[str, str] = {}
    for layer in layers:
        if layer.title is None:
            continue
        key = folded(layer.title)
        other = seen.get(key)
        seen[key] = layer.title
        if other is not None:
            raise OciFormatError(
                f"{what} has two layers titled {other[:160]!r} and "
                f"{layer.title[:160]!r}, which are one file"
            )


# --- writing -------------------------------------------------------------------------


def _descriptor_json(what: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": what.media_type,
        "digest": str(what.digest),
        "size": what.size,
    }


def _layer_json(layer: Layer) -> dict[str, Any]:
    annotations = dict(layer.annotations)
    if layer.title is not None:
        annotations[TITLE] = layer.title
    found = _descriptor_json(layer.descriptor)
    return {**found, "annotations": annotations} if annotations else found


def _entry_json(entry: Entry) -> dict[str, Any]:
    found = {**entry.other, **_descriptor_json(entry.descriptor)}
    if entry.artifact_type is not None:
        found["artifactType"] = entry.artifact_type
    if entry.annotations:
        found["annotations"] = dict(entry.annotations)
    return found
