"""The release record: what a publisher signs for one version of one application.

It is a TUF target file; TUF's length and hash bind its bytes, and it binds everything
else: the artifact, each component's manifest and each image by digest. Knows the
shape and its limits only: whether a record is trusted, or agrees with its path, with
the role's `custom` or with the artifact, is for the verifier to say.

Example:
    >>> record = ReleaseRecord.parse(data)
    >>> record.path, record.artifact.digest.short
    ('acme/releases/pump-monitor/1.2.0', '0efd1feea313')
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import (
    Fields,
    check_format,
    line,
    moment,
    reference,
    unique,
)
from margo_supplychain.formats.names import ReleaseName, TargetPath
from margo_supplychain.formats.release_entry import (
    PROFILE_DIGITS,
    ReleaseEntry,
    Withdrawal,
)
from margo_supplychain.formats.release_parts import (
    AttestationReference,
    Component,
    Image,
    descriptor_to_dict,
    parse_descriptor,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from margo_supplychain.formats.digests import Descriptor

__all__ = [
    "AttestationReference",
    "Closure",
    "Component",
    "Image",
    "ReleaseEntry",
    "ReleaseRecord",
    "Withdrawal",
    "check_location",
    "profile_fingerprint",
]

FORMAT: Final = 1
MEDIA_TYPE: Final = "application/vnd.margo-supplychain.release.v1+json"
Closure = Literal["complete", "partial"]

MAX_RECORD: Final = 1 << 20  # bytes
MAX_COMPONENTS: Final = 1_000
MAX_IMAGES: Final = 10_000
MAX_LOCATIONS: Final = 32
MAX_ATTESTATIONS: Final = 1_000
MAX_LAYOUT: Final = 1_000_000
# What informs, helps to find the content, or proves the rest: not what is released.
_BESIDE: Final = frozenset({"created", "locations", "layout", "attestations"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """One release: name, version, artifact and the closure of what it deploys.

    Args:
        application_version: `metadata.version` of margo.yaml as it is written there.
        created: when the release was made, whole seconds UTC; informs, decides
            nothing.
        artifact: the OCI manifest or index that the release is.
        artifact_type: its `artifactType`, if it has one.
        locations: hints where the content lies, `oci://…`.
        components: of a Margo package; empty for any other artifact.
        images: container images that the components name.
        closure: `complete` when every component and image is named by digest.
        layout: number of the in-toto layout it was made by.

    Raises:
        MetadataFormatError: beyond a limit, or a component, image or attestation is
            there twice.
    """

    name: ReleaseName
    version: Version
    application_version: str | None
    created: datetime
    artifact: Descriptor
    artifact_type: str | None
    locations: tuple[str, ...]
    components: tuple[Component, ...]
    images: tuple[Image, ...]
    closure: Closure
    layout: int | None = None
    attestations: tuple[AttestationReference, ...] = ()

    def __post_init__(self) -> None:
        if self.application_version is not None:
            line(self.application_version, what="applicationVersion", limit=200)
        if self.artifact_type is not None:
            reference(self.artifact_type, what="artifactType", limit=255)
        moment(self.created, what="created")
        if self.layout is not None and not 1 <= self.layout <= MAX_LAYOUT:
            raise MetadataFormatError(
                f"layout is {self.layout}, expected 1 to {MAX_LAYOUT}"
            )
        self._check_digests()
        self._check_lists()
        if self.closure == "complete":
            self._check_complete()

    def _check_digests(self) -> None:
        # Devices remember withdrawn artifacts by digest: one artifact has one.
        for what in (self.artifact, *(one.content for one in self.components)):
            if what.digest.algorithm != "sha256":
                raise MetadataFormatError(
                    f"{what.media_type} is named by {what.digest.algorithm}, expected "
                    "sha256"
                )

    def _check_lists(self) -> None:
        for kind, values, limit in (
            ("locations", self.locations, MAX_LOCATIONS),
            ("components", self.components, MAX_COMPONENTS),
            ("images", self.images, MAX_IMAGES),
            ("attestations", self.attestations, MAX_ATTESTATIONS),
        ):
            if len(values) > limit:
                raise MetadataFormatError(
                    f"release record has {len(values)} {kind}, more than {limit}"
                )
        for location in self.locations:
            check_location(location)
        unique(self.locations, what="locations")
        unique((f"{c.profile}/{c.name}" for c in self.components), what="components")
        unique((f"{i.component} {i.reference}" for i in self.images), what="images")
        unique((a.digest for a in self.attestations), what="attestations")
        types: dict[str, str] = {}
        for one in self.components:
            if types.setdefault(one.profile, one.profile_type) != one.profile_type:
                raise MetadataFormatError(
                    f"profile {one.profile} is of two types, {types[one.profile]} and "
                    f"{one.profile_type}"
                )

    def _check_complete(self) -> None:
        for image in self.images:
            if image.digest is None:
                raise MetadataFormatError(
                    f"closure is complete, but image {image.reference} of "
                    f"{image.component} has no digest"
                )

    @property
    def path(self) -> TargetPath:
        """The target path that this record must be signed under."""
        return self.name.release_path(self.version.tag)

    def profiles(self) -> tuple[str, ...]:
        """Return the fingerprint of each deployment profile, sorted and distinct."""
        groups: dict[str, list[tuple[str, str, str]]] = {}
        for one in self.components:
            groups.setdefault(one.profile, []).append(
                (one.name, one.repository, one.revision)
            )
        return tuple(sorted({profile_fingerprint(each) for each in groups.values()}))

    def entry(self) -> ReleaseEntry:
        """Return what the application role's list says beside this record's hash."""
        return ReleaseEntry(artifact=self.artifact.digest, profiles=self.profiles())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse unverified bytes.

        Raises:
            MetadataFormatError: above 1 MiB, another format, an unknown field, a
                wrong type or a value beyond its limits.
        """
        value = strict_json.parse(data, what="release record", limit=MAX_RECORD)
        return cls.from_dict(value)

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Make a record of unverified parsed JSON (`to_dict` gives the same)."""
        fields = Fields(value, what="release record")
        check_format(fields, FORMAT)
        artifact = fields.object("artifact")
        record = cls(
            name=_name(fields),
            version=fields.parsed("version", Version.parse),
            application_version=fields.optional("applicationVersion", str),
            created=fields.time("created"),
            artifact=parse_descriptor(artifact),
            artifact_type=artifact.optional("artifactType", str),
            locations=fields.list_of("locations", str, limit=MAX_LOCATIONS),
            components=tuple(
                Component.parse(one)
                for one in fields.objects("components", limit=MAX_COMPONENTS)
            ),
            images=tuple(
                Image.parse(one) for one in fields.objects("images", limit=MAX_IMAGES)
            ),
            closure=fields.parsed("closure", _closure),
            layout=fields.integer("layout") if fields.has("layout") else None,
            attestations=tuple(
                AttestationReference.parse(one)
                for one in fields.objects("attestations", limit=MAX_ATTESTATIONS)
            ),
        )
        artifact.done()
        fields.done()
        return record

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "publisher": self.name.publisher,
            "name": self.name.name,
            "version": str(self.version),
            "created": format_time(self.created),
            "artifact": descriptor_to_dict(self.artifact),
            "locations": list(self.locations),
            "components": [one.to_dict() for one in self.components],
            "images": [one.to_dict() for one in self.images],
            "closure": self.closure,
            "attestations": [one.to_dict() for one in self.attestations],
        }
        if self.application_version is not None:
            value["applicationVersion"] = self.application_version
        if self.artifact_type is not None:
            value["artifact"]["artifactType"] = self.artifact_type
        if self.layout is not None:
            value["layout"] = self.layout
        return value

    def identity(self) -> bytes:
        """Return what is released, as bytes: the record before it is proven and listed.

        Without `created`, `locations`, `layout` and `attestations`; else as `to_bytes`.
        The release step of a layout signs the digest of these bytes, so that the online
        key can't say another version, other images or components than were made.
        """
        value = self.to_dict()
        return strict_json.canonical(
            {name: one for name, one in value.items() if name not in _BESIDE}
        )

    @property
    def release(self) -> Digest:
        """The sha256 of `identity`: what policies name a release by.

        The artifact's digest does not do: a package's manifest binds neither the
        version nor its components and images.
        """
        return Digest.of(self.identity())

    def to_bytes(self) -> bytes:
        """Return the record's file; the same record always gives the same bytes.

        Raises:
            MetadataFormatError: above 1 MiB.
        """
        data = strict_json.canonical(self.to_dict())
        if len(data) > MAX_RECORD:
            raise MetadataFormatError(
                f"release record of {self.name} {self.version} would have {len(data)} "
                f"bytes, more than the limit of {MAX_RECORD}",
                hint="split the application, or name fewer images",
            )
        return data


def profile_fingerprint(components: Iterable[tuple[str, str, str]]) -> str:
    """Return 16 hex digits for a profile's (name, repository, revision) triples.

    A deployment names exactly these, and neither the profile's id nor, over the
    generations of the specification, its type in one spelling: both stay out.
    """
    data = strict_json.canonical({"components": sorted(components)})
    return hashlib.sha256(data).hexdigest()[:PROFILE_DIGITS]


def check_location(text: str) -> str:
    """Return `text` if it is a location: `scheme://…` without credentials.

    Raises:
        MetadataFormatError: if it is not.
    """
    reference(text, what="location", limit=512)
    scheme, colon, rest = text.partition("://")
    if not colon or not rest or not (scheme.isalnum() and scheme.islower()):
        raise MetadataFormatError(
            f"location {text[:160]!r} is not a URL such as oci://host/path"
        )
    if "@" in rest.partition("/")[0]:
        # The host part alone: a digest follows `@` in the path. Not repeated here.
        raise MetadataFormatError("a location holds credentials; leave them out")
    return text


def _name(fields: Fields) -> ReleaseName:
    try:
        return ReleaseName(fields.text("publisher"), fields.text("name"))
    except MetadataFormatError:
        raise
    except FormatError as why:
        raise MetadataFormatError(f"{fields.what}: {why}") from why


def _closure(text: str) -> Closure:
    if text not in ("complete", "partial"):
        raise MetadataFormatError(f"{text[:40]!r} is neither complete nor partial")
    return cast("Closure", text)
