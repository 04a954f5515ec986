"""`margo-supplychain attest`: record what a step did, and bind documents to a release.

Everything that a command needs is imported when it runs: help loads no cryptography.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, passphrase_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.cli.output import Result

# Not imported from `authoring`: `--help` must not load it. A test compares.
_TYPES: Final = (
    "slsa-provenance",
    "cyclonedx",
    "spdx",
    "openvex",
    "csaf",
    "test-result",
    "review",
    "vsa",
)


@click.group()
def attest() -> None:
    """Record what a step of your pipeline did; bind documents to a release."""


def _signed(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command a key to sign with, and where the envelope goes."""

    @click.option(
        "--key",
        "key",
        required=True,
        metavar="KEY",
        help="Private key to sign with: a file, or the URI of one in a token or "
        "service.",
    )
    @click.option(
        "--output",
        default=".",
        show_default=True,
        metavar="DIR",
        help="Where the envelope is written; made if it is not there.",
    )
    @click.option("--force", is_flag=True, help="Replace an envelope that is there.")
    @passphrase_options()
    @pass_invocation
    @functools.wraps(command)
    def with_key(invocation: Invocation, *arguments: Any, **options: Any) -> Result:
        return command(invocation, *arguments, **options)

    return with_key


def _recorded(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command what says which files a step took and made."""

    @click.option(
        "--step",
        required=True,
        metavar="NAME",
        help="The step's name in the layout.",
    )
    @click.option(
        "--materials",
        multiple=True,
        metavar="PATH",
        help="File or directory that the step takes; may be repeated.",
    )
    @click.option(
        "--products",
        multiple=True,
        metavar="PATH",
        help="File or directory that the step makes; may be repeated.",
    )
    @click.option(
        "--git",
        metavar="DIR",
        help="Take the files that git tracks there, the commit, and whether they "
        "differ.",
    )
    @click.option(
        "--release",
        metavar="DIST",
        help="The step makes this release: what `release build` left, or a file of "
        "`release adopt --write-release`.",
    )
    @click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave out names (*.pyc) or paths (build/tmp); the link says so.",
    )
    @click.option(
        "--follow-symlinks",
        is_flag=True,
        help="Record the files that symbolic links lead to, below this directory.",
    )
    @click.option(
        "--record-environment",
        "variables",
        multiple=True,
        metavar="NAME",
        help="Write this variable into the link, which is public; may be repeated.",
    )
    @_signed
    @functools.wraps(command)
    def with_files(*arguments: Any, **options: Any) -> Result:
        return command(*arguments, **options)

    return with_files


@attest.command(
    context_settings={"allow_interspersed_args": False},
    epilog=epilog(
        examples=[
            "attest run --step build --git . --products dist --key ci.key -- make",
            "attest run --step package --materials dist --release out --key k -- make",
        ],
        exits=[0, 1, 2, 3, 4, 6],
        follow="release publish out --attestation links",
        also="or the command failed: no link is written",
    ),
)
@click.option(
    "--record-streams",
    is_flag=True,
    help="Write what the command prints into the link, which is public.",
)
@click.option(
    "--no-command",
    is_flag=True,
    help="Leave the command line out of the link.",
)
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...")
@_recorded
def run(invocation: Invocation, **options: Any) -> Result:
    """Run a step's command, and sign what it took and what it made.

    Materials are looked at before, products after it. Names are paths from the current
    directory, without it. What the command prints goes to stderr. Its environment and
    what it prints are not recorded unless asked for; files are never left out unasked.
    """
    from margo_supplychain.cli.attest_run import attest_step

    return attest_step(invocation, **options)


@attest.command(
    epilog=epilog(
        examples=[
            "attest record --step review --git . --key alice.key",
            "attest record --step package --materials dist --release out --key ci.key",
        ],
        exits=[0, 2, 3, 4, 6],
        follow="release publish out --attestation links",
    )
)
@_recorded
def record(invocation: Invocation, **options: Any) -> Result:
    """Sign what a step took and made, both as they are now; nothing is run."""
    from margo_supplychain.cli.attest_run import attest_step

    return attest_step(invocation, command=(), **options)


@attest.command(
    epilog=epilog(
        examples=[
            "attest add bom.json --type cyclonedx --release dist --key ci.key",
            "attest add web.json --type spdx --release dist --component web --key k",
            "attest add summary.json --release dist --key site.key",
        ],
        exits=[0, 2, 3, 4, 6],
        follow="release publish dist --attestation links",
    )
)
@click.argument("file", metavar="FILE")
@click.option(
    "--type",
    "name",
    type=click.Choice(_TYPES),
    help="What FILE is; an in-toto Statement says it itself.",
)
@click.option(
    "--release", metavar="DIST", help="What it is about: what `release build` left."
)
@click.option(
    "--component",
    metavar="NAME",
    help="With --release: it is about this component alone.",
)
@click.option(
    "--subject",
    metavar="sha256:…",
    help="What it is about, by the digest of a manifest.",
)
@_signed
def add(invocation: Invocation, **options: Any) -> Result:
    """Bind a document to a release, in a signed Statement.

    FILE is looked at for its shape alone. A Statement about this very release is
    signed as it is.
    """
    from margo_supplychain.cli.attest_add import add_document

    return add_document(invocation, **options)


@attest.command(
    epilog=epilog(
        examples=[
            "attest show build.4f1a09c2.link.dsse.json",
            "--format json attest show cyclonedx.4f1a09c2.dsse.json",
        ],
        exits=[0, 2, 4],
        follow="release publish dist --attestation links",
    )
)
@click.argument("file", metavar="FILE")
def show(file: str) -> Result:
    """Show what an envelope says. UNVERIFIED: nobody's signature is checked."""
    from margo_supplychain.cli.attest_show import show_envelope

    return show_envelope(file)
