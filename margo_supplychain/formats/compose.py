"""What a component's `compose.yaml` names: its images and its files.

Reads what Compose and Margo's specification say about structure (application-registry,
"Compose Archive"); runs and resolves nothing. What keeps the list of images from being
complete is a gap, said aloud: a variable in an image's name, another file's services,
a part of Compose that this version does not know.

Example:
    >>> [image.reference for image in images_of(
    ...     b"services: {web: {image: registry.example/acme/web:1.2.0}}")]
    ['registry.example/acme/web:1.2.0']
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import ApplicationFormatError, OciFormatError
from margo_supplychain.formats.application_findings import Findings, join
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.titles import safe_title
from margo_supplychain.formats.yaml_positions import Node, parse_yaml, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_SERVICES: Final = 200
# What the Compose specification has at the top, but for `models` and `include`.
_TOP_LEVEL: Final = frozenset(
    ("name", "version", "services", "networks", "volumes", "configs", "secrets")
)
# Compose reads these beside compose.yaml, or takes them instead of it.
_OTHER_FILE: Final = re.compile(
    r"compose\.yml|compose\.override\.ya?ml|docker-compose[^/]*\.ya?ml"
)
_ENVIRONMENT: Final = ".env"
_VARIABLE: Final = re.compile(r"\$(?:\$|\{[^}]*\}?|[A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
# Wide on purpose: what an engine makes of a short name is not ours to say.
_REFERENCE: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,500}(?:@(?P<digest>[^@]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """An image that a service runs, or mounts as a volume.

    Args:
        service: the service's name.
        reference: as written.
        digest: the digest that the reference holds, if any.
        variables: what Compose would put in; such a reference can't be pinned.
    """

    service: str
    reference: str
    digest: Digest | None
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """What a Compose file names.

    Args:
        images: what services run or mount, in their order.
        files: env files and configs, as paths beside the Compose file.
        gaps: why more images than these may run; empty if the list is complete.
        warnings: what is only advised.
    """

    images: tuple[ImageReference, ...]
    files: tuple[str, ...]
    gaps: tuple[str, ...]
    warnings: tuple[str, ...]


def images_of(compose_yaml: bytes) -> tuple[ImageReference, ...]:
    """Return the images that unverified bytes of a `compose.yaml` name.

    Raises:
        ApplicationFormatError: as `parse_compose`.
    """
    return parse_compose(compose_yaml, files=None).images


def parse_compose(
    data: bytes,
    *,
    files: Collection[str] | None,
    environment: bytes | None = None,
    what: str = "compose.yaml",
) -> ComposeFile:
    """Parse unverified bytes of a Compose file as Margo wants them in an archive.

    Args:
        data: unverified bytes, at most 1 MiB.
        files: paths beside the Compose file in its archive; None if not at hand.
        environment: the bytes of the `.env` among them, if they are at hand.
        what: names the file in errors.

    Raises:
        ApplicationFormatError: with every problem in `problems`.
    """
    root = parse_yaml(data, what=what)
    find = Findings(what)
    reader = _Reader(find, files)
    if find.is_mapping(root, "the document"):
        reader.read(root)
        reader.look_beside(environment)
    if find.errors:
        more = f" (and {len(find.errors) - 1} more)" if len(find.errors) > 1 else ""
        where = ":".join(find.errors[0].split(":", 3)[:3])
        raise ApplicationFormatError(
            find.errors[0] + more, where=where, problems=find.errors
        )
    return ComposeFile(
        images=tuple(reader.images),
        files=tuple(dict.fromkeys(reader.files)),
        gaps=tuple(dict.fromkeys(reader.gaps)),
        warnings=find.warnings,
    )


class _Reader:
    """Collects while it walks one Compose file."""

    def __init__(self, find: Findings, files: Collection[str] | None) -> None:
        self._find = find
        self._beside = files
        self.images: list[ImageReference] = []
        self.files: list[str] = []
        self.gaps: list[str] = []

    def read(self, root: Node) -> None:
        """Read the whole document."""
        find = self._find
        if "include" in root.members:
            self.gaps.append("include brings in services of other files")
        if "models" in root.members:
            self.gaps.append("models brings in models, which are no pinned images")
        for key in root.members:
            known = key in _TOP_LEVEL or key in ("include", "models")
            if not known and not key.startswith("x-"):
                self.gaps.append(f"{join('', key)} is nothing that this version knows")
        services = find.mapping(root, "services", "")
        if services is not None and not services.members:
            find.wrong(services, "services", "at least one service")
        elif services is not None and len(services.members) > MAX_SERVICES:
            find.error(services, f"services has more than {MAX_SERVICES} services")
        elif services is not None:
            for name, node in services.members.items():
                path = join("services", name)
                if find.is_mapping(node, path):
                    self._service(name, node, path, services)
        for key in ("configs", "secrets"):
            named = find.mapping(root, key, "", required=False)
            for name, node in named.members.items() if named is not None else ():
                self._outside(key, node, f"{key}.{name}")

    def look_beside(self, environment: bytes | None) -> None:
        """Look for other files that Compose reads without being told."""
        beside = self._beside or ()
        for file in sorted(beside):
            if _OTHER_FILE.fullmatch(file):
                self.gaps.append(f"{file} beside it may change what runs")
        if _ENVIRONMENT in beside and (
            environment is None or b"COMPOSE_FILE" in environment
        ):
            self.gaps.append(f"{_ENVIRONMENT} beside it may name other Compose files")

    def _service(self, name: str, node: Node, path: str, services: Node) -> None:
        image = self._find.text(node, "image", path, required=False)
        policy = node.members.get("pull_policy")
        builds = policy is not None and _may_be(policy, "build")
        if builds:
            self.gaps.append(f"{path} may be built on the device: pull_policy")
        if "provider" in node.members:
            self.gaps.append(f"{path} is run by a provider outside of Compose")
        for item, at in _each(node.members.get("volumes"), f"{path}.volumes"):
            self._volume(name, item, at)
        if image is not None:
            if "build" in node.members and not builds:
                text = f"{path}.build is ignored: the image is {quoted(image)}"
                self._find.warning(node.keys["build"], text)
            self._image(name, image, node.members["image"], f"{path}.image")
        elif "build" in node.members:
            text = f"{path} is built on the device, expected an image"
            self._find.error(node.keys["build"], text)
        elif "extends" in node.members:
            self._extends(node.members["extends"], path, services)
        elif "image" not in node.members:
            self._find.error(services.keys[name], f"{path} names no image")
        for item, at in _each(node.members.get("env_file"), f"{path}.env_file"):
            self._env_file(item, at)

    def _extends(self, node: Node, path: str, services: Node) -> None:
        is_mapping = node.kind == "mapping"
        base = node.members.get("service") if is_mapping else node
        other = node.members.get("file")
        if other is not None:
            self.gaps.append(f"{path} extends a service of {other.shown}")
        elif base is None or base.text not in services.members:
            self._find.wrong(node, f"{path}.extends", "a service of this file")

    def _volume(self, service: str, item: Node, path: str) -> None:
        kind = item.members.get("type") if item.kind == "mapping" else None
        if kind is None or not _may_be(kind, "image"):
            return
        image = self._find.text(item, "source", path, expected="an image")
        if image is not None:
            self._image(service, image, item.members["source"], f"{path}.source")

    def _image(self, service: str, text: str, node: Node, path: str) -> None:
        variables = tuple(one for one in _VARIABLE.findall(text) if one != "$$")
        found = None
        if variables:
            shown = ", ".join(variables)
            self.gaps.append(f"{path} {quoted(text)} depends on {shown}")
        else:
            matched = _REFERENCE.fullmatch(text)
            if matched is None:
                expected = "an image reference like registry.example/acme/web:1.2.0"
                self._find.wrong(node, path, expected)
                return
            try:
                found = Digest.parse(matched["digest"]) if matched["digest"] else None
            except OciFormatError as why:
                self._find.error(node, f"{path}: {why}")
        self.images.append(
            ImageReference(
                service=service, reference=text, digest=found, variables=variables
            )
        )

    def _env_file(self, item: Node, path: str) -> None:
        required = True
        if item.kind == "mapping":
            optional = item.members.get("required")
            required = optional is None or optional.text.lower() != "false"
            inner = item.members.get("path")
            if inner is None:
                self._find.error(item, f"{path}.path is missing, expected a file")
                return
            item, path = inner, f"{path}.path"
        self._file(item, path, required=required)

    def _outside(self, key: str, node: Node, path: str) -> None:
        file = node.members.get("file")
        if file is not None and key == "secrets":
            text = f"{path}.file is {file.shown}: an archive must hold no secrets"
            self._find.error(file, text)
        elif file is not None:
            self._file(file, f"{path}.file", required=True)

    def _file(self, node: Node, path: str, *, required: bool) -> None:
        try:
            if node.kind != "text" or "$" in node.text:
                raise OciFormatError(f"{path} is no path")
            found = safe_title(node.text.removeprefix("./"))
        except OciFormatError:
            self._find.wrong(node, path, "a relative path inside the archive")
            return
        if self._beside is not None and required and found not in self._beside:
            text = f"{path} {quoted(found)} does not exist in the archive"
            self._find.error(node, text)
        self.files.append(found)


def _may_be(node: Node, word: str) -> bool:
    # A variable may be anything on the device.
    return node.text == word or "$" in node.text


def _each(node: Node | None, path: str) -> Iterator[tuple[Node, str]]:
    if node is None or node.kind == "empty":
        return
    if node.kind == "list":
        for number, item in enumerate(node.items):
            yield item, f"{path}[{number}]"
    else:
        yield node, path
