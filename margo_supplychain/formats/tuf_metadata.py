"""TUF metadata files: exact bytes, what they say, and the bytes that are signed.

python-tuf parses a version of `true` or `1.5`, a threshold of `1.0` and duplicate JSON
keys (the last wins); the raw JSON is checked here first. A `RoleFile` is well-formed
and nothing more: no signature, version or time was looked at.

Example:
    >>> parse_role(b"{}", role="root", limit=100)
    Traceback (most recent call last):
    ...
    margo_supplychain.errors.MetadataFormatError: root has no "signed" object
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final
from urllib.parse import quote

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats import canonical_json, strict_json
from margo_supplychain.formats.times import parse_time

if TYPE_CHECKING:
    from datetime import datetime

TOP_LEVEL: Final = frozenset({"root", "timestamp", "snapshot", "targets"})
ISSUED: Final = "x-issued"

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


@final
@dataclass(frozen=True, slots=True, eq=False)
class RoleFile(Generic[T]):
    """One metadata file, well-formed and unverified.

    Args:
        role: the role's name, not percent-encoded.
        data: exactly the bytes that were read.
        payload: the canonical bytes that its signatures cover (TUF 4.1).
        metadata: python-tuf's view of it; never serialised again to verify.
        sha256: lower-case hex over `data`.
        issued: `x-issued` of root and timestamp, if there is one.
    """

    role: str
    data: bytes
    payload: bytes
    metadata: Metadata[T]
    sha256: str
    issued: datetime | None

    @property
    def signed(self) -> T:
        """The signed part."""
        return self.metadata.signed

    @property
    def version(self) -> int:
        """The role's version."""
        return self.metadata.signed.version

    @property
    def expires(self) -> datetime:
        """When the file stops being valid (aware, UTC)."""
        return self.metadata.signed.expires

    @property
    def label(self) -> str:
        """How messages call this file: `timestamp v5`."""
        return f"{self.role} v{self.version}"


def file_name(role: str, version: int | None) -> str:
    """Return a metadata file's name (TUF 4.1, consistent snapshots).

    Role names are percent-encoded without safe characters, so that a name with a slash
    stays one path component.
    """
    quoted = quote(role, safe="")
    return f"{quoted}.json" if version is None else f"{version}.{quoted}.json"


def parse_root(data: bytes, *, limit: int) -> RoleFile[Root]:
    """Parse unverified bytes as root metadata (see `parse_role`)."""
    return cast("RoleFile[Root]", parse_role(data, role="root", limit=limit))


def parse_timestamp(data: bytes, *, limit: int) -> RoleFile[Timestamp]:
    """Parse unverified bytes as timestamp metadata (see `parse_role`)."""
    found = parse_role(data, role="timestamp", limit=limit)
    return cast("RoleFile[Timestamp]", found)


def parse_snapshot(data: bytes, *, limit: int) -> RoleFile[Snapshot]:
    """Parse unverified bytes as snapshot metadata (see `parse_role`)."""
    return cast("RoleFile[Snapshot]", parse_role(data, role="snapshot", limit=limit))


def parse_targets(
    data: bytes, *, role: str, limit: int, spread: int | None = None
) -> RoleFile[Targets]:
    """Parse unverified bytes as targets or delegated metadata (see `parse_role`)."""
    found = parse_role(data, role=role, limit=limit, spread=spread)
    return cast("RoleFile[Targets]", found)


def parse_role(
    data: bytes, *, role: str, limit: int, spread: int | None = None
) -> RoleFile[Any]:
    """Parse unverified bytes as the metadata of `role`.

    Args:
        data: unverified.
        role: which role it must be; any name but a top-level one means `targets`.
        limit: most bytes that are looked at.
        spread: fewest bytes for each value (`strict_json.parse`).

    Raises:
        MetadataFormatError: not bounded strict JSON, another `_type`, or fields of a
            wrong type or range (TUF 4.3 to 4.6).
    """
    raw = strict_json.parse(data, what=role, limit=limit, spread=spread)
    signed = raw.get("signed")
    if not isinstance(signed, dict):
        raise MetadataFormatError(f'{role} has no "signed" object')
    expected = role if role in TOP_LEVEL else "targets"
    if signed.get("_type") != expected:
        raise MetadataFormatError(
            f"{role} is of type {signed.get('_type')!r:.40}, expected {expected!r}"
        )
    _check_numbers(signed, role)
    _check_shapes(raw, signed, role)
    # Fixed before parsing: `from_dict` takes the dictionary apart.
    payload = canonical_payload(signed)
    issued = None
    if ISSUED in signed and expected in ("root", "timestamp"):
        issued = parse_time(signed[ISSUED], what=f"{ISSUED} of {role}")
    try:
        metadata = Metadata[Any].from_dict(raw)
    # python-tuf's constructors raise whatever their operations raise on wrong shapes.
    except Exception as why:
        raise MetadataFormatError(
            f"{role} is not {expected} metadata: {why!s:.200}"
        ) from why
    digest = hashlib.sha256(data).hexdigest()
    return RoleFile(role, data, payload, metadata, digest, issued)


def canonical_payload(signed: dict[str, Any]) -> bytes:
    """Return the canonical JSON of a signed part (TUF 4.1).

    Raises:
        MetadataFormatError: it holds a lone surrogate.
    """
    try:
        return canonical_json.encode(signed)
    except UnicodeEncodeError as why:
        raise MetadataFormatError("metadata holds a lone surrogate") from why


def _check_numbers(value: Any, role: str) -> None:
    """Refuse booleans and numbers below one where TUF has counters."""
    counters = {"version", "threshold", "bit_length"}
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, dict):
            for key, item in found.items():
                if key == "custom":
                    continue  # opaque to TUF (4.5)
                if isinstance(item, (dict, list)):
                    pending.append(item)
                elif key in counters and (type(item) is not int or item < 1):
                    raise MetadataFormatError(
                        f"{role} has {key} {item!r:.40}, expected a whole number from 1"
                    )
                elif key == "length" and (type(item) is not int or item < 0):
                    raise MetadataFormatError(
                        f"{role} has length {item!r:.40}, expected a whole number"
                    )


def _check_shapes(raw: dict[str, Any], signed: dict[str, Any], role: str) -> None:
    """Refuse shapes that python-tuf takes without looking."""
    signatures = raw.get("signatures")
    if not isinstance(signatures, list) or not all(
        isinstance(one, dict)
        and isinstance(one.get("keyid"), str)
        and isinstance(one.get("sig"), str)
        for one in signatures
    ):
        raise MetadataFormatError(f"{role} has no list of signatures")
    for field in ("meta", "targets", "keys"):
        if field in signed:
            _require_object(signed[field], f"{role} has a {field}")
    if "roles" in signed:
        for entry in _require_object(signed["roles"], f"{role} has roles").values():
            _check_keyids(entry, role)
    if "delegations" in signed:
        what = f"{role} has delegations"
        delegations = _require_object(signed["delegations"], what)
        _require_object(delegations.get("keys"), f"{what} with keys")
        # TUF 4.5: a list, or null beside bins in what some tools write.
        roles = delegations.get("roles")
        if roles is not None and not isinstance(roles, list):
            raise MetadataFormatError(f"{what} with roles that are no list")
        for entry in roles or ():
            _check_keyids(entry, role)
        if delegations.get("succinct_roles") is not None:
            _check_keyids(delegations["succinct_roles"], role)


def _require_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MetadataFormatError(f"{what} that is no object")
    return value


def _check_keyids(entry: Any, role: str) -> None:
    keyids = entry.get("keyids") if isinstance(entry, dict) else None
    if not isinstance(keyids, list) or not all(isinstance(one, str) for one in keyids):
        raise MetadataFormatError(f"{role} has a role without a list of keyids")
    for field in ("paths", "path_hash_prefixes"):
        if field in entry and not isinstance(entry[field], list):
            raise MetadataFormatError(f"{role} has a role whose {field} is no list")
