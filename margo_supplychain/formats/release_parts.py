"""The parts of a release record: components, images and attestations, each by digest.

Shapes and limits only; `formats.record` puts them together.

Example:
    >>> Image(component="web", reference="nginx:1.27", digest=None).to_dict()
    {'component': 'web', 'reference': 'nginx:1.27', 'platforms': []}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.fields import line, reference, unique

if TYPE_CHECKING:
    from margo_supplychain.formats.fields import Fields

ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
MAX_PLATFORMS: Final = 64
MAX_ATTESTATION: Final = 64 << 20  # bytes; SBOMs of 40 MiB are seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One component of one deployment profile, by digest.

    Args:
        name: as in margo.yaml.
        profile: id of the deployment profile.
        profile_type: `helm`, `compose` or `custom` (older: `helm.v3`, ...).
        repository: exactly as in margo.yaml; a deployment names it too.
        revision: exactly as in margo.yaml; the tag, which nobody trusts.
        content: the component's manifest or index.
    """

    name: str
    profile: str
    profile_type: str
    repository: str
    revision: str
    content: Descriptor

    def __post_init__(self) -> None:
        line(self.name, what="component name", limit=200)
        line(self.profile, what=f"profile of component {self.name}", limit=200)
        line(self.profile_type, what=f"profile type of {self.name}", limit=64)
        reference(self.repository, what=f"repository of {self.name}", limit=512)
        reference(self.revision, what=f"revision of {self.name}", limit=128)

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one component; refuse unknown fields."""
        component = cls(
            name=fields.text("name"),
            profile=fields.text("profile"),
            profile_type=fields.text("profileType"),
            repository=fields.text("repository"),
            revision=fields.text("revision"),
            content=parse_descriptor(fields),
        )
        fields.done()
        return component

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "name": self.name,
            "profile": self.profile,
            "profileType": self.profile_type,
            "repository": self.repository,
            "revision": self.revision,
        } | descriptor_to_dict(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image that a component names.

    Args:
        component: name of the component, or of the release for a bare artifact.
        reference: exactly as the component names it; a digest in it is `digest`.
        digest: its manifest or index; None when it is not pinned.
        platforms: such as `linux/arm64`; empty when unknown.
    """

    component: str
    reference: str
    digest: Digest | None
    platforms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        line(self.component, what="component of an image", limit=200)
        reference(self.reference, what=f"image of {self.component}", limit=512)
        if len(self.platforms) > MAX_PLATFORMS:
            raise MetadataFormatError(
                f"image {self.reference} has {len(self.platforms)} platforms, more "
                f"than {MAX_PLATFORMS}"
            )
        for platform in self.platforms:
            reference(platform, what=f"platform of image {self.reference}", limit=100)
        unique(self.platforms, what=f"platforms of image {self.reference}")
        # Runtimes go by the digest in the reference: nothing else may be signed. Of
        # two algorithms nobody can tell whether they name the same bytes.
        _, at, own = self.reference.partition("@")
        if at and self.digest is not None and own != str(self.digest):
            raise MetadataFormatError(
                f"image {self.reference} of {self.component} names another digest "
                f"than is signed for it: {self.digest}"
            )

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one image; refuse unknown fields."""
        image = cls(
            component=fields.text("component"),
            reference=fields.text("reference"),
            digest=fields.optional("digest", Digest.parse),
            platforms=fields.list_of("platforms", str, limit=MAX_PLATFORMS),
        )
        fields.done()
        return image

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        value: dict[str, Any] = {
            "component": self.component,
            "reference": self.reference,
            "platforms": list(self.platforms),
        }
        if self.digest is not None:
            value["digest"] = str(self.digest)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationReference:
    """A signed statement about the release, by the digest of its envelope.

    Args:
        type: predicate type, such as `https://slsa.dev/provenance/v1`.
        step: name of the in-toto step, for links.
        digest: of the DSSE envelope's exact bytes.
        size: of the envelope in bytes.
    """

    type: str
    step: str | None
    digest: Digest
    size: int

    def __post_init__(self) -> None:
        reference(self.type, what="type of an attestation", limit=256)
        if self.step is not None:
            line(self.step, what="step of an attestation", limit=200)
        if not 0 < self.size <= MAX_ATTESTATION:
            raise MetadataFormatError(
                f"attestation {self.digest.short} has size {self.size}, expected 1 to "
                f"{MAX_ATTESTATION}"
            )

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one attestation's reference; refuse unknown fields."""
        attestation = cls(
            type=fields.text("type"),
            step=fields.optional("step", str),
            digest=fields.parsed("digest", Digest.parse),
            size=fields.integer("size"),
        )
        fields.done()
        return attestation

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        value: dict[str, Any] = {
            "type": self.type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.step is not None:
            value["step"] = self.step
        return value


def parse_descriptor(fields: Fields) -> Descriptor:
    """Read `mediaType`, `digest` and `size` of an object."""
    digest = fields.parsed("digest", Digest.parse)
    size = fields.integer("size")

    def describe(media_type: str) -> Descriptor:
        return Descriptor(media_type=media_type, digest=digest, size=size)

    return fields.parsed("mediaType", describe)


def descriptor_to_dict(what: Descriptor) -> dict[str, Any]:
    """Return JSON-ready values."""
    return {
        "mediaType": what.media_type,
        "digest": str(what.digest),
        "size": what.size,
    }
