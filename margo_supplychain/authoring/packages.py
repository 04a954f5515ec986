"""`release build`: a package directory becomes an OCI image layout.

    pump-monitor/
      margo.yaml            the application description
      resources/            icon, description, licence, release notes, ...
      components/<name>/    sources of components (`authoring.components`)
      components.lock       digests of components that have no source here
      images.lock           digests of the container images that components name

`margo.yaml` and `resources/` are the package, built as the Margo specification says
(margo-formats, "OCI form"): no time, no user, no path of this machine comes in, so the
same files give the same bytes. Nothing is written before everything was found right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.components import build_component
from margo_supplychain.authoring.contents import Contents
from margo_supplychain.authoring.descriptions import one_line_each, signed_version
from margo_supplychain.authoring.output import check_output, write_output
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.resolution import resolve
from margo_supplychain.authoring.source_files import (
    read_file,
    read_tree,
    refuse_links,
)
from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats import oci
from margo_supplychain.formats.application import (
    DESCRIPTION,
    MAX_DESCRIPTION,
    parse_description,
)
from margo_supplychain.formats.locks import (
    COMPONENTS_LOCK,
    IMAGES_LOCK,
    MAX_LOCK,
    ComponentLock,
    ImageLock,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.record import check_location
from margo_supplychain.transport.directory import DirectorySource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from margo_supplychain.authoring.components import Built, Wanted
    from margo_supplychain.authoring.source_files import SourceFile
    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.versions import Version

RESOURCES: Final = "resources"
COMPONENTS: Final = "components"
_KNOWN: Final = frozenset(
    {DESCRIPTION, RESOURCES, COMPONENTS, COMPONENTS_LOCK, IMAGES_LOCK}
)
_OTHER_RESOURCE: Final = "application/octet-stream"


def build_package(
    directory: Path,
    *,
    publisher: str,
    output: Path,
    version: Version | None,
    locations: tuple[str, ...],
) -> None:
    """Build a package directory into `output`; see `Release.from_package`."""
    for location in locations:
        check_location(location)
    if not directory.is_dir():
        raise ApplicationFormatError(f"{directory} is not a directory")
    check_output(output, sources=[directory / RESOURCES, directory / COMPONENTS])
    package = _read_package(directory)
    contents = Contents()
    sources = ComponentSources(directory, contents)
    resolution = resolve(
        package.description.profiles,
        build=sources.build,
        components=_component_lock(directory),
        images=_image_lock(directory),
    )
    if resolution.missing:
        raise _missing(resolution.missing)
    description = package.description
    release = Release(
        name=ReleaseName(publisher, description.id),
        version=signed_version(description, version),
        artifact=_package_manifest(package, contents),
        artifact_type=oci.MARGO_APPLICATION,
        application_version=description.version_text,
        locations=locations,
        components=resolution.components,
        images=resolution.images,
        closure=resolution.closure,
        warnings=one_line_each(
            (
                *description.warnings,
                *_strays(directory, output),
                *sources.strays(),
                *resolution.warnings,
            )
        ),
        elsewhere=resolution.elsewhere,
        source=DirectorySource(output),
    )
    write_output(output, release, contents, tag=description.version_text)


def _missing(components: tuple[str, ...]) -> ApplicationFormatError:
    problems = [
        f"component {one} has no source in {COMPONENTS}/ and no digest in "
        f"{COMPONENTS_LOCK}"
        for one in components
    ]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ApplicationFormatError(
        problems[0] + more,
        problems=problems,
        hint=f"put sources into {COMPONENTS}/<name>/, or reviewed digests into "
        f"{COMPONENTS_LOCK}",
    )


class Package(NamedTuple):
    """What a package directory says, and the files that the package will hold."""

    description: ApplicationDescription
    files: Mapping[str, SourceFile]


def _read_package(directory: Path) -> Package:
    main = read_file(directory / DESCRIPTION, limit=MAX_DESCRIPTION)
    if main is None:
        other = directory / "margo.yml"
        hint = f"rename {other} to {DESCRIPTION}" if other.exists() else None
        raise ApplicationFormatError(f"{directory} holds no {DESCRIPTION}", hint=hint)
    files = {DESCRIPTION: main, **read_tree(directory, RESOURCES)}
    return Package(parse_description(main.data, files=files), files)


def _package_manifest(package: Package, contents: Contents) -> Descriptor:
    kinds = {one.path: one.kind for one in package.description.resources}
    layers: list[oci.Layer] = []
    for path, file in package.files.items():  # margo.yaml, then sorted
        annotations: dict[str, str] = {}
        if path == DESCRIPTION:
            media_type = oci.MARGO_DESCRIPTION
        elif path in kinds:
            media_type = oci.resource_type(kinds[path], path)
            annotations[oci.MARGO_RESOURCE] = oci.resource_annotation(kinds[path])
        else:
            # Linked from a description file, for example; the specification has no
            # type for it.
            media_type = _OTHER_RESOURCE
            annotations[oci.MARGO_RESOURCE] = "other"
        layers.append(
            oci.Layer(
                descriptor=contents.add(file.data, media_type),
                title=path,
                annotations=annotations,
            )
        )
    contents.add(oci.EMPTY_BYTES, oci.EMPTY_TYPE)
    manifest = oci.manifest_bytes(artifact_type=oci.MARGO_APPLICATION, layers=layers)
    return contents.add(manifest, oci.MANIFEST)


def _component_lock(directory: Path) -> ComponentLock:
    found = read_file(directory / COMPONENTS_LOCK, limit=MAX_LOCK)
    return ComponentLock.parse(b"format = 1" if found is None else found.data)


def _image_lock(directory: Path) -> ImageLock:
    found = read_file(directory / IMAGES_LOCK, limit=MAX_LOCK)
    return ImageLock.parse(b"format = 1" if found is None else found.data)


class ComponentSources:
    """The source directories of a package's components, each built once.

    Args:
        directory: the package directory.
        contents: takes what is built.
    """

    def __init__(self, directory: Path, contents: Contents) -> None:
        self._base = directory / COMPONENTS
        self._contents = contents
        self._built: dict[str, tuple[Wanted, Built]] = {}

    def build(self, profile: str, wanted: Wanted) -> Built | None:
        """Build a component from its source; None if it has none.

        Raises:
            ApplicationFormatError: one source for two different components, or what
                `build_component` raises.
        """
        for name in (f"{profile}/{wanted.name}", wanted.name):
            refuse_links(self._base.parent, f"{COMPONENTS}/{name}")
            if (self._base / name).is_dir():
                return self._build(name, wanted)
        return None

    def _build(self, name: str, wanted: Wanted) -> Built:
        shown = f"{COMPONENTS}/{name}"
        known = self._built.get(name)
        if known is None:
            built = build_component(
                self._base / name, wanted, self._contents, shown=shown
            )
            self._built[name] = (wanted, built)
            return built
        if known[0] != wanted:
            raise ApplicationFormatError(
                f"{shown} is the source of two components: "
                f"{known[0].repository}:{known[0].revision} and "
                f"{wanted.repository}:{wanted.revision}",
                hint=f"give each its own: {COMPONENTS}/<profile>/{wanted.name}/",
            )
        return known[1]

    def strays(self) -> tuple[str, ...]:
        """Return a warning for each directory that no component was built from."""
        if not self._base.is_dir() or self._base.is_symlink():
            return ()
        used = {name.partition("/")[0] for name in self._built}
        return tuple(
            f"{COMPONENTS}/{one.name} is no component of {DESCRIPTION}"
            for one in sorted(self._base.iterdir())
            if one.name not in used and not one.name.startswith(".")
        )


def _strays(directory: Path, output: Path) -> tuple[str, ...]:
    names = [
        one.name
        for one in sorted(directory.iterdir())
        if one.name not in _KNOWN
        and not one.name.startswith(".")
        and one.resolve() != output.resolve()
    ]
    if not names:
        return ()
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    shown = ", ".join(names[:5]) + more
    return (f"not part of the package, being outside {RESOURCES}/: {shown}",)
