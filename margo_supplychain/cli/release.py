"""`margo-supplychain release`: build, adopt, publish, withdraw and show releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from margo_supplychain.cli.arguments import DIGEST_HINT, RELEASE_NAME, VERSION, typed
from margo_supplychain.cli.author import Author, reads, signs, warn
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, setting_option

if TYPE_CHECKING:
    from margo_supplychain.cli.output import Result
    from margo_supplychain.formats.locks import ComponentLock, ImageLock
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version


@click.group()
def release() -> None:
    """Build, adopt, publish, withdraw and show releases."""


_location_option = click.option(
    "--location",
    "locations",
    multiple=True,
    metavar="oci://…",
    help="Where devices find the content, a hint; may be repeated.",
)


@release.command(
    epilog=epilog(
        examples=[
            "release build pump-monitor --output dist",
            "release build pump-monitor --output dist --version 1.2.0",
        ],
        exits=[0, 2, 4],
        follow="release publish dist",
    )
)
@click.argument("directory", metavar="DIR")
@click.option("--output", required=True, metavar="DIR", help="An OCI image layout.")
@click.option(
    "--version",
    type=VERSION,
    help="The version to sign, where margo.yaml's is no SemVer version.",
)
@setting_option("publisher", help="Whose release it is.")
@_location_option
@pass_invocation
def build(
    invocation: Invocation,
    *,
    directory: str,
    output: str,
    version: Version | None,
    publisher: str,
    locations: tuple[str, ...],
) -> Result:
    """Build a package directory; the same files give the same bytes."""
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.release_describe import describe_build
    from margo_supplychain.errors import ApplicationFormatError

    try:
        built = Release.from_package(
            Path(directory),
            publisher=publisher,
            output=Path(output),
            version=version,
            locations=locations,
        )
    except ApplicationFormatError as why:
        if why.problems and why.hint == why.default_hint:
            why.hint = "nothing was built; all problems are listed above"
        raise
    warn(invocation, built.warnings)
    return describe_build(built, directory=Path(directory), output=output)


@release.command(
    epilog=epilog(
        examples=[
            "release adopt layout@sha256:0efd…a313 --name acme/x --version 1.0.0",
            "release adopt layout@sha256:77d1…93b4 --name acme/guard --version 2.1.0",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="release show acme/x 1.0.0",
    )
)
@click.argument("reference", metavar="LAYOUT@sha256:…")
@click.option(
    "--name", type=RELEASE_NAME, required=True, help="What it is released as."
)
@click.option("--version", type=VERSION, required=True, help="What pins go by.")
@click.option("--components-lock", metavar="FILE", help="Digests of its components.")
@click.option("--images-lock", metavar="FILE", help="Digests of the images it names.")
@_location_option
@signs
def adopt(
    author: Author,
    *,
    reference: str,
    name: ReleaseName,
    version: Version,
    components_lock: str | None,
    images_lock: str | None,
    locations: tuple[str, ...],
) -> Result:
    """Sign and publish an artifact of an OCI layout as it is, by its digest."""
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.release_publish import publish_releases
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.transport.opening import open_source

    layout, _, digest = reference.rpartition("@")
    if not layout:
        raise click.UsageError(
            f"{reference!r:.200} is not LAYOUT@sha256:…: a tag can move, so name the "
            "digest that you reviewed (index.json of the layout lists it)"
        )
    with typed(f"{DIGEST_HINT}, as index.json of the layout lists it"):
        Digest.parse(digest)
    adopted = Release.from_artifact(
        open_source(layout),
        digest,
        name=name,
        version=version,
        components=_component_lock(components_lock),
        images=_image_lock(images_lock),
        locations=locations,
    )
    return publish_releases(author, [adopted])


@release.command(
    epilog=epilog(
        examples=["release publish dist", "release publish dist --key ci.key"],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo refresh",
    )
)
@click.argument("outputs", nargs=-1, required=True, metavar="DIST...")
@signs
def publish(author: Author, *, outputs: tuple[str, ...]) -> Result:
    """Sign what `release build` made, and publish it: all of it, or nothing."""
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.release_publish import publish_releases

    return publish_releases(
        author, [Release.from_build(Path(one)) for one in dict.fromkeys(outputs)]
    )


@release.command(
    epilog=epilog(
        examples=[
            "release withdraw acme/pump-monitor 1.2.0 --reason 'leaks passwords'",
            "release withdraw acme/pump-monitor 1.2.0 --reason leaks --use 1.2.1",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="release show acme/pump-monitor",
    )
)
@click.argument("name", type=RELEASE_NAME, metavar="PUBLISHER/NAME")
@click.argument("version", type=VERSION)
@click.option("--reason", required=True, help="One line for people.")
@click.option("--use", type=VERSION, help="What to use instead.")
@signs
def withdraw(
    author: Author,
    *,
    name: ReleaseName,
    version: Version,
    reason: str,
    use: Version | None,
) -> Result:
    """Take a release back: devices remember it, under whatever version it returns."""
    from margo_supplychain.cli.release_publish import withdraw_release

    return withdraw_release(author, name, version, reason=reason, use=use)


@release.command(
    epilog=epilog(
        examples=[
            "release show acme/pump-monitor",
            "release show acme/pump-monitor 1.2.0",
        ],
        exits=[0, 2, 3, 4],
        follow="device verify acme/pump-monitor --pin '^1.0'",
    )
)
@click.argument("name", type=RELEASE_NAME, metavar="PUBLISHER/NAME")
@click.argument("version", type=VERSION, required=False)
@reads
def show(author: Author, *, name: ReleaseName, version: Version | None) -> Result:
    """Show an application's releases, or one of them."""
    from margo_supplychain.cli.release_show import show_release, show_releases

    if version is None:
        return show_releases(author, name)
    return show_release(author, name, version)


def _component_lock(file: str | None) -> ComponentLock | None:
    from margo_supplychain.formats.locks import ComponentLock

    return None if file is None else ComponentLock.parse(_read_lock(file))


def _image_lock(file: str | None) -> ImageLock | None:
    from margo_supplychain.formats.locks import ImageLock

    return None if file is None else ImageLock.parse(_read_lock(file))


def _read_lock(file: str) -> bytes:
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.formats.locks import MAX_LOCK

    return read_named(Path(file), limit=MAX_LOCK, what="a lock file")
