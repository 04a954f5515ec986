"""`margo-supplychain release`: build, adopt, publish, submit and withdraw releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli.arguments import RELEASE_NAME, VERSION
from margo_supplychain.cli.attestation_files import (
    attestation_option,
    given_attestations,
    require_outputs,
)
from margo_supplychain.cli.author import Author, is_url, reads, signs, warn
from margo_supplychain.cli.handing import hands_in, note_option, out_option, submits
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, setting_option

if TYPE_CHECKING:
    from margo_supplychain.cli.output import Result
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version


@click.group()
def release() -> None:
    """Build, adopt, publish, submit, withdraw and show releases."""


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
    # An operator may have an inbox, too, to take in what others release.
    find = invocation.settings.find
    is_vendor = find("inbox") is not None and find("online-key") is None
    return describe_build(
        built,
        directory=Path(directory),
        output=output,
        is_vendor=is_vendor,
    )


@release.command(
    epilog=epilog(
        examples=[
            "release adopt layout@sha256:0efd…a313 --name acme/x --version 1.0.0",
            "release adopt oci://registry.example/acme/x --from-tags",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="release show acme/x 1.0.0",
    )
)
@click.argument("reference", metavar="PLACE@sha256:…")
@click.option("--name", type=RELEASE_NAME, help="What it is released as.")
@click.option("--version", type=VERSION, help="What pins go by.")
@click.option("--components-lock", metavar="FILE", help="Digests of its components.")
@click.option("--images-lock", metavar="FILE", help="Digests of the images it names.")
@click.option(
    "--partial",
    is_flag=True,
    help="Release a package without those components that no lock has.",
)
@click.option(
    "--from-tags",
    is_flag=True,
    help="Sign nothing: list what a registry's tags name, for review.",
)
@click.option(
    "--write-lock",
    metavar="FILE",
    help="With --from-tags and --version: write a components.lock, to review.",
)
@click.option(
    "--write-release",
    metavar="FILE",
    help="Sign nothing: write what it is, for `attest run --release FILE`.",
)
@_location_option
@attestation_option
@signs
@submits
def adopt(
    author: Author,
    *,
    reference: str,
    name: ReleaseName | None,
    version: Version | None,
    from_tags: bool,
    write_lock: str | None,
    **options: Any,
) -> Result:
    """Sign an artifact of a registry or OCI layout as it is, by its digest.

    What lies in a registry stays there and is not pushed again.
    """
    from margo_supplychain.cli import release_adopt

    if from_tags:
        if any(options.values()):
            raise click.UsageError("--from-tags signs nothing: it takes no lock")
        return release_adopt.list_candidates(
            author, reference, name, version, write_lock
        )
    if write_lock is not None:
        raise click.UsageError("--write-lock goes with --from-tags and --version")
    if name is None or version is None:
        missing = "--name" if name is None else "--version"
        raise click.UsageError(f"{missing} is missing: what is it released as?")
    return release_adopt.adopt_one(author, reference, name, version, **options)


@release.command(
    epilog=epilog(
        examples=[
            "release publish dist",
            "release publish dist oci://registry.example/acme/trust --key ci.key",
            "release publish dist --attestation links --attestation bom.dsse.json",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo refresh",
    )
)
@click.argument("outputs", nargs=-1, required=True, metavar="DIST... [PLACE]")
@attestation_option
@signs
def publish(
    author: Author, *, outputs: tuple[str, ...], attestations: tuple[str, ...]
) -> Result:
    """Sign what `release build` made, and publish it: all of it, or nothing.

    PLACE, an oci:// URL, is the repository, as --repo is. Content is pushed beside it,
    then signatures, timestamp last. What --attestation names is judged first, as a
    device would; a verification summary can be added to what is published already.
    """
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.release_publish import publish_releases

    require_outputs(outputs)
    *built, last = dict.fromkeys(outputs)
    if is_url(last):
        author = author.at(last)
    else:
        built.append(last)
    if not built:
        raise click.UsageError(
            f"{last} is a repository: which DIST is published there?"
        )
    with given_attestations(attestations) as given:
        releases = [Release.from_build(Path(one)) for one in built]
        return publish_releases(author, releases, given)


@release.command(
    epilog=epilog(
        examples=[
            "release submit dist",
            "release submit dist --inbox oci://registry.example/plant/inbox",
            "release submit dist --attestation links",
            "release submit acme.tar",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="release show acme/pump-monitor",
    )
)
@click.argument("outputs", nargs=-1, required=True, metavar="DIST...|FILE")
@setting_option("inbox", help="Where the operator takes it from: DIR or oci://…")
@out_option
@note_option
@attestation_option
@signs
def submit(
    author: Author,
    *,
    outputs: tuple[str, ...],
    attestations: tuple[str, ...],
    inbox: str,
    out: str | None,
    note: str | None,
) -> Result:
    """Sign what `release build` made, and hand it in: the operator publishes it.

    What your keys sign is judged first by the rules that the operator goes by. Content
    without an oci:// location is handed in with it. FILE is what --out wrote, once all
    have signed it.
    """
    from margo_supplychain.cli.release_submit import submit_outputs

    require_outputs(outputs)
    author = hands_in(author, inbox, out=out, note=note)
    with given_attestations(attestations) as given:
        return submit_outputs(author, tuple(dict.fromkeys(outputs)), given)


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
@submits
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
