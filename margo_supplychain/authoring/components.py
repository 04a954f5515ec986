"""Component sources: what a package directory holds for a component, made content.

`components/<component>/`, or `components/<profile>/<component>/` when profiles differ,
holds one of three:

- `compose.yaml` and the files beside it: a Compose Archive is built, reproducibly, with
  the manifest that the Margo specification asks for (margo-formats, "Compose Archive");
- one `<chart>.tgz`, with or without `<chart>.tgz.prov`: a packed Helm chart, taken as
  it is (`authoring.charts`);
- `oci-layout`: an OCI image layout with one manifest, taken as it is, by digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.charts import read_chart, wrap_chart
from margo_supplychain.authoring.inspection import inspect, sole_manifest
from margo_supplychain.authoring.source_files import read_tree, refuse_links_in
from margo_supplychain.errors import ApplicationFormatError, FormatError
from margo_supplychain.formats.archives import COMPOSE_FILE, build_compose_archive
from margo_supplychain.formats.compose import parse_compose
from margo_supplychain.formats.oci import (
    COMPONENT_TYPE,
    COMPONENT_VERSION,
    COMPOSE_COMPONENT,
    COMPOSE_LAYER,
    EMPTY_BYTES,
    EMPTY_TYPE,
    MANIFEST,
    Layer,
    manifest_bytes,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import read_layout_index
from margo_supplychain.transport.directory import DirectorySource

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.contents import Contents
    from margo_supplychain.formats.application import ProfileType
    from margo_supplychain.formats.compose import ImageReference
    from margo_supplychain.formats.digests import Descriptor

_CHART: Final = ".tgz"
_PROVENANCE: Final = ".tgz.prov"
_OTHER_KINDS: Final = {
    "package": "a Margo package",
    "image": "a container image",
    "artifact": "an artifact of another kind",
}


class Wanted(NamedTuple):
    """A component as margo.yaml names it.

    Args:
        name: the component's name.
        family: the kind of profile that it is in.
        repository: where a deployment will pull it from.
        revision: the tag that a deployment will name.
    """

    name: str
    family: ProfileType
    repository: str
    revision: str


class Built(NamedTuple):
    """A component's content.

    Args:
        content: its manifest or index.
        images: image references that it names.
        opaque: it may name images that nothing but its author can list.
        gaps: why it may run others, whoever lists them.
        warnings: what its author should know.
    """

    content: Descriptor
    images: tuple[ImageReference, ...] = ()
    opaque: bool = False
    gaps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def build_component(
    place: Path, wanted: Wanted, contents: Contents, *, shown: str
) -> Built:
    """Make content of a component's source directory.

    Args:
        place: the directory.
        wanted: what margo.yaml says.
        contents: takes the blobs.
        shown: what the directory is called in errors.

    Raises:
        ApplicationFormatError: it holds none or several of the three forms, or is not
            what margo.yaml says.
        OciFormatError, VerificationError: its OCI layout is damaged.
        StorageError: it can't be read.
    """
    if (place / "oci-layout").exists():
        return _take_layout(place, wanted, contents, shown)
    if (place / COMPOSE_FILE).exists():
        _check_family(wanted, "compose", f"{shown}/{COMPOSE_FILE}")
        return _build_compose(place, wanted, contents, shown)
    files = read_tree(place)
    charts = [name for name in files if name.endswith(_CHART)]
    others = [name for name in files if not name.endswith((_CHART, _PROVENANCE))]
    if len(charts) != 1 or others or len(files) > 2:
        found = ", ".join(list(files)[:5]) or "nothing"
        raise ApplicationFormatError(
            f"{shown} holds {found[:200]}, expected {COMPOSE_FILE} (a Compose "
            "component), one packed chart .tgz, or an OCI layout",
            hint="pack a chart with: helm package CHART --destination " + shown,
        )
    _check_family(wanted, "helm", f"{shown}/{charts[0]}")
    provenance = files.get(f"{charts[0]}.prov")
    return _wrap_chart(
        files[charts[0]].data,
        None if provenance is None else provenance.data,
        wanted,
        contents,
        f"{shown}/{charts[0]}",
    )


def _build_compose(
    place: Path, wanted: Wanted, contents: Contents, shown: str
) -> Built:
    files = read_tree(place)
    variables = files.get(".env")
    named = parse_compose(
        files[COMPOSE_FILE].data,
        files=files,
        environment=None if variables is None else variables.data,
        what=f"{shown}/{COMPOSE_FILE}",
    )
    archive = build_compose_archive(
        {name: file.data for name, file in files.items()},
        wanted.name,
        executables=[name for name, file in files.items() if file.executable],
    )
    layer = Layer(
        descriptor=contents.add(archive, COMPOSE_LAYER),
        title=f"{wanted.name}.tar.gz",
        annotations={
            COMPONENT_TYPE: "compose",
            COMPONENT_VERSION: plain_version(wanted.revision),
        },
    )
    manifest = manifest_bytes(artifact_type=COMPOSE_COMPONENT, layers=[layer])
    contents.add(EMPTY_BYTES, EMPTY_TYPE)
    return Built(
        contents.add(manifest, MANIFEST),
        images=named.images,
        gaps=named.gaps,
        warnings=named.warnings,
    )


def _wrap_chart(
    data: bytes,
    provenance: bytes | None,
    wanted: Wanted,
    contents: Contents,
    shown: str,
) -> Built:
    chart = read_chart(data, shown=shown)
    warnings: list[str] = []
    if chart.version != plain_version(wanted.revision):
        raise ApplicationFormatError(
            f"{shown} has version {chart.version[:80]!r}, and margo.yaml's revision "
            f"of {wanted.name} is {wanted.revision!r}",
            hint="pack the chart of that version, or correct the revision",
        )
    if chart.api_version != "v2":
        warnings.append(
            f"{shown} has apiVersion {chart.api_version}, Margo asks for v2"
        )
    if wanted.repository.rpartition("/")[2] != chart.name:
        # `helm push` always puts the chart's name at the end of the repository.
        warnings.append(
            f"{shown} holds chart {chart.name}, and margo.yaml's repository ends in "
            f"{wanted.repository.rpartition('/')[2]}"
        )
    content = wrap_chart(data, chart, provenance, contents)
    return Built(content, opaque=True, warnings=tuple(warnings))


def _take_layout(place: Path, wanted: Wanted, contents: Contents, shown: str) -> Built:
    refuse_links_in(place, shown)
    top = sole_manifest(read_layout_index(place), shown=f"{shown}/index.json")
    source = DirectorySource(place)
    found = inspect(source, top, shown=shown)
    if found.kind in ("compose", "helm"):
        _check_family(wanted, "compose" if found.kind == "compose" else "helm", shown)
    elif wanted.family != "custom":
        raise ApplicationFormatError(
            f"{shown} holds {_OTHER_KINDS[found.kind]}, and margo.yaml's "
            f"{wanted.name} is a {wanted.family} component"
        )
    warnings = list(found.warnings)
    if found.version is not None and found.version != plain_version(wanted.revision):
        warnings.append(
            f"{shown} calls itself {found.version[:80]}, and margo.yaml's revision of "
            f"{wanted.name} is {wanted.revision}"
        )
    contents.add_from(source, top)
    return Built(
        top,
        images=found.images,
        opaque=found.opaque or found.kind == "artifact",
        gaps=found.gaps,
        warnings=tuple(warnings),
    )


def plain_version(revision: str) -> str:
    """Return a revision with `+` for `_`, where it is SemVer's tag form."""
    try:
        return str(Version.parse_tag(revision))
    except FormatError:
        return revision


def _check_family(wanted: Wanted, found: ProfileType, shown: str) -> None:
    if wanted.family not in (found, "custom"):
        raise ApplicationFormatError(
            f"{shown} is a {found} component, and margo.yaml's {wanted.name} is in a "
            f"profile of type {wanted.family}",
            hint="components of one name in two profiles have sources of their own: "
            "components/<profile>/<component>/",
        )
