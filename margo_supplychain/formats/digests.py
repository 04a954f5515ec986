"""Digests and descriptors: names for exact bytes.

Parsed once at the edge; a `Digest` is safe to use in a path or URL because its
algorithm is on a list and its value is lower-case hex of the right length.

Example:
    >>> Digest.of(b"{}").short
    '44136fa355b3'
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from margo_supplychain.errors import OciFormatError

MAX_SIZE: Final = 1 << 50  # bytes; far above any artifact, far below 2^53
_HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Digest:
    """An OCI digest: `sha256`, `sha384` or `sha512` with lower-case hex.

    Raises:
        OciFormatError: for any other algorithm, case or length (OCI image-spec,
            descriptor.md, "Digests").
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = _HEX_LENGTH.get(self.algorithm)
        if (
            length is None
            or len(self.hex) != length
            or _HEX.fullmatch(self.hex) is None
        ):
            found = f"{self.algorithm}:{self.hex}"
            raise OciFormatError(
                f"digest {found[:160]!r} is not sha256, sha384 or sha512 with "
                "lower-case hex of its length"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `sha256:<hex>`."""
        algorithm, _, value = text.partition(":")
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the sha256 digest of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people only."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Media type, digest and size in bytes of some content (OCI descriptor).

    Raises:
        OciFormatError: if the media type is not one (RFC 6838) or the size is negative
            or above 2^50.
    """

    media_type: str
    digest: Digest
    size: int

    def __post_init__(self) -> None:
        if _MEDIA_TYPE.fullmatch(self.media_type) is None:
            raise OciFormatError(f"media type {self.media_type[:160]!r} is not one")
        if type(self.size) is not int or not 0 <= self.size <= MAX_SIZE:
            raise OciFormatError(f"size {self.size!r} of {self.digest} is not valid")

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        """Return the descriptor of `data`."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data))
