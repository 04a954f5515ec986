"""Margo application descriptions (`margo.yaml`), of both generations in circulation.

Well-formed is all that this says: that components exist, or are what their repository
holds, is checked elsewhere. Generation `v1` is what Margo publishes, `v1-alpha1` what
many packages still are. An error is what the specification forbids and makes
`release build` refuse; a warning is what is only advised. The bytes are kept as they
are (`raw`): nothing is ever re-serialised to be signed or compared.

Example:
    >>> inspect_description(b"apiVersion: {{version}}")[1]
    ('margo.yaml:1:14: a key is a mapping: an unfilled placeholder?',)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from margo_supplychain.errors import ApplicationFormatError, OciFormatError
from margo_supplychain.formats.application_findings import Findings
from margo_supplychain.formats.application_rules import (
    TAG,
    check_constraints,
    check_repository,
    check_revision,
    check_use,
    check_waiting,
)
from margo_supplychain.formats.oci import MARGO_RESOURCE_KINDS
from margo_supplychain.formats.titles import safe_title
from margo_supplychain.formats.yaml_positions import MAX_SIZE, Node, parse_yaml, quoted

if TYPE_CHECKING:
    from collections.abc import Collection

DESCRIPTION: Final = "margo.yaml"
MAX_DESCRIPTION: Final = MAX_SIZE
Generation = Literal["v1", "v1-alpha1"]
ProfileType = Literal["helm", "compose", "custom"]

_GENERATIONS: Final[dict[str, Generation]] = {
    "v1": "v1",
    "margo.org/v1-alpha1": "v1-alpha1",
}
_TYPES: Final[dict[str, ProfileType]] = {
    "helm": "helm",
    "compose": "compose",
    "custom": "custom",
}
_OLD_TYPES: Final[dict[str, ProfileType]] = {
    "helm": "helm",
    "helm.v3": "helm",
    "compose": "compose",
    "compose.v1": "compose",
    "docker-compose": "compose",
}
_ID: Final = re.compile(r"[a-z0-9-]{1,200}", re.ASCII)
_PROFILE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)
_URL: Final = re.compile(r"https?://[^\s\x00-\x1f\x7f]{1,500}", re.ASCII)
_TOP: Final = ("apiVersion", "id", "metadata", "deploymentProfiles")
_USE: Final = ("parameters", "configuration")
_METADATA: Final = ("name", "version", "description", "catalog")
_CATALOG: Final = ("organization", "author", "application")
_CATALOG_APPLICATION: Final = (*MARGO_RESOURCE_KINDS, "site", "tagline", "tags")
_PROFILE: Final = ("type", "id", "components", "description", "deviceConstraints")
_PROPERTIES: Final = ("repository", "revision", "wait", "timeout")
# Text for people and defaults for templates may well hold {{…}}.
_FREE: Final = frozenset({"description", "tagline", "value"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReference:
    """What a profile says of one component; old Compose ones have a location only."""

    name: str
    repository: str | None
    revision: str | None
    package_location: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A deployment profile; `type` is the published word, `written_type` the file's."""

    id: str
    type: ProfileType
    written_type: str
    components: tuple[ComponentReference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file that the catalog names: `kind` is Margo's key, `path` is normalised."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationDescription:
    """A description without errors, or what could be read of one with them.

    Args:
        version_text: the version exactly as written, `1.0` also when it is a number.
        version_is_text: whether it was written as YAML text.
        warnings: what is only advised, each with its place.
        unread: ids of profiles of which a part could not be read, or stands twice; the
            empty text for a profile without an id.
        raw: the bytes it was read from.
    """

    id: str
    name: str
    version_text: str
    version_is_text: bool
    generation: Generation
    profiles: tuple[Profile, ...]
    resources: tuple[Resource, ...]
    warnings: tuple[str, ...]
    raw: bytes
    unread: tuple[str, ...] = ()


def parse_description(
    data: bytes, *, files: Collection[str] | None
) -> ApplicationDescription:
    """Parse unverified bytes as a description that Margo's specification allows.

    Args:
        data: unverified bytes of `margo.yaml`, at most 1 MiB.
        files: paths in the package, to see what is missing; None if not at hand.

    Raises:
        ApplicationFormatError: with every problem in `problems`.
    """
    description, errors = _read(data, files)
    if errors or description is None:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        first = errors[0]
        where = ":".join(first.split(":", 3)[:3])
        raise ApplicationFormatError(first + more, where=where, problems=errors)
    return description


def inspect_description(
    data: bytes, *, files: Collection[str] | None = None
) -> tuple[ApplicationDescription | None, tuple[str, ...]]:
    """Read what can be read of a description that may be wrong; never raises for that.

    Returns:
        The description as far as it goes (None without id, version or any profile),
        and the errors that `parse_description` would raise.
    """
    try:
        return _read(data, files)
    except ApplicationFormatError as why:
        return None, (str(why),)


def _read(
    data: bytes, files: Collection[str] | None
) -> tuple[ApplicationDescription | None, tuple[str, ...]]:
    root = parse_yaml(data, what=DESCRIPTION, limit=MAX_DESCRIPTION)
    find = Findings(DESCRIPTION)
    if not find.is_mapping(root, "the document"):
        return None, find.errors
    kind = root.members.get("kind")
    if kind is not None and kind.text == "ApplicationDeployment":
        find.wrong(kind, "kind", "an application description")
        return None, find.errors
    generation = _generation(root, find)
    identity = _identity(root, generation, find)
    metadata = find.mapping(root, "metadata", "")
    name: str | None = None
    version: Node | None = None
    resources: tuple[Resource, ...] = ()
    if metadata is not None:
        more = ("id",) if generation == "v1-alpha1" else ()
        find.known(metadata, "metadata", (*_METADATA, *more))
        name = find.text(metadata, "name", "metadata")
        version = _version(metadata, find)
        resources = _catalog(metadata, files, find)
    profiles = _profiles(root, generation, find)
    check_use(root, find)
    find.placeholders(root, _FREE)
    if identity is None or version is None or not profiles:
        return None, find.errors
    description = ApplicationDescription(
        id=identity,
        name=name or identity,
        version_text=version.text,
        version_is_text=version.kind == "text",
        generation=generation,
        profiles=profiles,
        resources=resources,
        warnings=find.warnings,
        raw=data,
        unread=find.unread,
    )
    return description, find.errors


def _generation(root: Node, find: Findings) -> Generation:
    expected = '"v1" or "margo.org/v1-alpha1"'
    stated = find.text(root, "apiVersion", "", expected=expected)
    generation = _GENERATIONS.get(stated or "")
    if stated is not None and generation is None:
        find.wrong(root.members["apiVersion"], "apiVersion", expected)
    kind = root.members.get("kind")
    if generation == "v1-alpha1":
        right = "ApplicationDescription"
        if find.text(root, "kind", "", expected=quoted(right)) not in (None, right):
            find.wrong(root.members["kind"], "kind", quoted(right))
    elif kind is not None:
        find.warning(kind, f"kind is {kind.shown}, but v1 has no kind")
    find.known(root, "", (*_TOP, *_USE, "kind"))
    return generation or "v1"


def _identity(root: Node, generation: Generation, find: Findings) -> str | None:
    expected = "1 to 200 of a-z, 0-9 and -"
    metadata = root.members.get("metadata")
    old = None if metadata is None else metadata.members.get("id")
    if generation == "v1" or metadata is None or old is None:
        return find.text(root, "id", "", expected=expected, pattern=_ID)
    # The older generation has it in metadata; some of its packages in both places.
    found = find.text(metadata, "id", "metadata", expected=expected, pattern=_ID)
    top = root.members.get("id")
    if top is not None and top.text != found:
        find.wrong(top, "id", f"what metadata.id says, {old.shown}")
    return found


def _version(metadata: Node, find: Findings) -> Node | None:
    node = find.member(metadata, "version", "metadata", "text", required=True)
    if node is None:
        return None
    if node.kind not in ("text", "number") or not node.text.strip():
        find.wrong(node, "metadata.version", "text")
        return None
    if node.kind == "number":
        text = f"metadata.version is the number {node.shown}, expected text"
        find.warning(node, f'{text}: write "{node.text[:80]}"')
    if TAG.fullmatch(node.text) is None:
        find.error(
            node,
            f"metadata.version is {quoted(node.text)}, expected what can be a tag: a "
            "package's tag must equal its version, and holds 1 to 128 of A-Z a-z 0-9 "
            "_ . - (no + and no spaces)",
        )
    elif node.text == "latest":
        find.warning(node, 'metadata.version is "latest", which names no version')
    return node


def _catalog(
    metadata: Node, files: Collection[str] | None, find: Findings
) -> tuple[Resource, ...]:
    catalog = find.mapping(metadata, "catalog", "metadata")
    if catalog is None:
        return ()
    where = "metadata.catalog"
    find.known(catalog, where, _CATALOG)
    for key, needed in (("organization", True), ("author", False)):
        for item, path in find.items(catalog, key, where, required=needed):
            if find.is_mapping(item, path):
                find.known(item, path, ("name", "site", "email"))
                find.text(item, "name", path, required=needed)
    application = find.mapping(catalog, "application", where, required=False)
    if application is None:
        return ()
    find.known(application, f"{where}.application", _CATALOG_APPLICATION)
    found: dict[str, Resource] = {}
    for kind in MARGO_RESOURCE_KINDS:
        file = _resource(application, kind, files, find)
        if file is None:
            continue
        if file in found:
            other = found[file].kind
            find.error(application.members[kind], f"{kind} names the file of {other}")
        found[file] = Resource(kind=kind, path=file)
    return tuple(found.values())


def _resource(
    application: Node, kind: str, files: Collection[str] | None, find: Findings
) -> str | None:
    where = "metadata.catalog.application"
    written = find.text(application, kind, where, required=False)
    if written is None:
        return None
    node = application.members[kind]
    try:
        path = safe_title(written.removeprefix("./"))
    except OciFormatError:
        find.wrong(node, f"{where}.{kind}", "a relative path in the package")
        return None
    if files is not None and path not in files:
        find.error(node, f"{kind} {quoted(path)} does not exist in the package")
    return path


def _profiles(
    root: Node, generation: Generation, find: Findings
) -> tuple[Profile, ...]:
    found: list[Profile] = []
    for node, path in find.items(root, "deploymentProfiles", ""):
        if not find.is_mapping(node, path):
            find.lose("")
            continue
        profile = _profile(node, path, generation, find)
        if profile is None:
            stated = node.members.get("id")
            find.lose("" if stated is None else stated.text)
            continue
        if any(other.id == profile.id for other in found):
            find.error(node.members["id"], f"{path}.id {profile.id} comes twice")
            find.lose(profile.id)
        found.append(profile)
    return tuple(found)


def _profile(
    node: Node, path: str, generation: Generation, find: Findings
) -> Profile | None:
    types = _TYPES if generation == "v1" else _OLD_TYPES
    *most, last = (quoted(one) for one in types)
    expected = f"{', '.join(most)} or {last}"
    written = find.text(node, "type", path, expected=expected)
    if written is not None and written not in types:
        find.wrong(node.members["type"], f"{path}.type", expected)
    expected = "1 to 200 of letters, digits, ., _ and -"
    identity = find.text(node, "id", path, expected=expected, pattern=_PROFILE_ID)
    old = ("requiredResources",) if generation == "v1-alpha1" else ()
    find.known(node, path, (*_PROFILE, *old))
    check_constraints(node, path, strict=generation == "v1", find=find)
    kind = types.get(written or "")
    components: dict[str, ComponentReference] = {}
    for item, where in find.items(node, "components", path):
        if not find.is_mapping(item, where):
            find.lose(identity or "")
            continue
        component = _component(item, where, kind, generation, find)
        if component is None:
            find.lose(identity or "")
            continue
        if component.name in components:
            text = f"{where}.name {component.name} comes twice in its profile"
            find.error(item.members["name"], text)
            find.lose(identity or "")
        components[component.name] = component
    if identity is None or kind is None or not components:
        return None
    return Profile(
        id=identity,
        type=kind,
        written_type=written or kind,
        components=tuple(components.values()),
    )


def _component(
    node: Node,
    path: str,
    kind: ProfileType | None,
    generation: Generation,
    find: Findings,
) -> ComponentReference | None:
    find.known(node, path, ("name", "properties"))
    expected = "1 to 200 of a-z, 0-9 and -"
    name = find.text(node, "name", path, expected=expected, pattern=_ID)
    properties = find.mapping(node, "properties", path)
    if name is None or properties is None:
        return None
    where = f"{path}.properties"
    location: str | None = None
    old = generation == "v1-alpha1"
    if old and kind != "helm" and "packageLocation" in properties.members:
        find.known(properties, where, (*_PROPERTIES, "packageLocation", "keyLocation"))
        location = find.text(
            properties, "packageLocation", where, expected="a URL", pattern=_URL
        )
    else:
        find.known(properties, where, _PROPERTIES)
    needed = location is None
    repository = check_repository(properties, where, find, required=needed)
    revision = check_revision(properties, where, find, old=old, required=needed)
    check_waiting(properties, where, find)
    return ComponentReference(
        name=name,
        repository=repository,
        revision=revision,
        package_location=location,
    )
