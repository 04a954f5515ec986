"""`root finalize` and `root rehearse`: a signed root becomes the repository's."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from margo_supplychain.cli import root_describe as show
from margo_supplychain.cli.author import (
    UNPUBLISHED,
    Author,
    reads,
    signed_data,
    signs,
    warn,
)
from margo_supplychain.cli.failures import PROGRAM, hinted
from margo_supplychain.cli.options import epilog, missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_files import ROOT_LIMIT, judge, read_root
from margo_supplychain.cli.signing_keys import ONLINE, TARGETS
from margo_supplychain.errors import IncompleteError

if TYPE_CHECKING:
    from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.root_chain import RootChain
    from margo_supplychain.authoring.written import Written


def _proposal(author: Author, path: Path) -> RootProposal:
    """Read a proposal; one that is being adopted already may be gone on with.

    Raises:
        click.UsageError: no repository is named.
    """
    data = read_root(path)
    if not author.place:
        raise click.UsageError(
            f"{missing_setting('repo')}; a first root is for `repo init --signed-root`"
        )
    with author.explained():
        chain = author.open().roots(state=author.memory())
        return judge(data, _before(chain, data))


def _before(chain: RootChain, data: bytes) -> RootChain:
    """Return the chain without its newest root, if that is the proposal itself."""
    from margo_supplychain.formats.tuf_metadata import parse_root

    proposed = parse_root(data, limit=ROOT_LIMIT)
    if len(chain.roots) > 1 and chain.trusted.payload == proposed.payload:
        return chain._replace(roots=chain.roots[:-1])
    return chain


@click.command(
    epilog=epilog(
        examples=[
            "root finalize root-2.json",
            "root finalize root-2.json --key new-targets.key --key new-online.key",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo check",
    )
)
@click.argument("file", metavar="FILE")
@signs
def finalize(author: Author, *, file: str) -> Result:
    """Make a root that enough holders signed the repository's own.

    Signs again what its new keys must sign, with --key or the keys of this place, and
    lets a fresh device and one with the previous state judge it before anything is
    written. Run again, it goes on where it was stopped.
    """
    path = Path(file)
    proposal = _proposal(author, path)
    signed = _complete(proposal, path)
    repository = author.open()
    with hinted(UNPUBLISHED), author.explained():
        written = _adopt(author, repository, proposal, signed)
    again = ", ".join(
        f"{role} v{version}"
        for role, (version, _) in written.roles.items()
        if role != "root"
    )
    warn(author.invocation, written.warnings)
    return Result(
        data={
            "repository": repository.url,
            "version": signed.version,
            "sha256": signed.root.sha256,
            "signed": signed_data(written.roles),
            "warnings": list(written.warnings),
            "difference": proposal.difference().to_dict(),
        },
        lines=[
            f"adopted root v{signed.version} in {repository.url}",
            f"  signed again  {again or 'nothing: all of it stands'}",
            "  checked       as a fresh device would, and as one with the state before",
            f"next: {PROGRAM} repo check",
        ],
    )


def _adopt(
    author: Author, repository: Repository, proposal: RootProposal, signed: SignedRoot
) -> Written:
    """Adopt a root; keys are opened, and secrets asked for, if something is signed."""
    adopt = partial(
        repository.adopt_root,
        signed,
        time_checked=author.time_checked,
        state=author.memory(),
    )
    if not author.keys and not proposal.difference().renewals:
        with suppress(IncompleteError):
            return adopt(())
    with author.keyring() as keyring:
        return adopt(author.signers(keyring, *TARGETS, *ONLINE))


def _complete(proposal: RootProposal, path: Path) -> SignedRoot:
    try:
        return proposal.finalize()
    except IncompleteError as why:
        why.hint = (
            f"send {path} to {show.next_holder(proposal)}: {PROGRAM} root sign {path} "
            "--key …; nothing was changed"
        )
        raise


@click.command(
    epilog=epilog(
        examples=[
            "root rehearse root-2.json",
            "--format json root rehearse root-2.json",
        ],
        exits=[0, 2, 3, 4],
        follow="root sign root-2.json --key a.key",
    )
)
@click.argument("file", metavar="FILE")
@reads
def rehearse(author: Author, *, file: str) -> Result:
    """Play the whole ceremony on a copy, with stand-ins for everybody's keys.

    Shows what `root finalize` would do, and whether devices would follow; the
    repository and FILE stay as they are.
    """
    from margo_supplychain.authoring.rehearsing import rehearse as play

    path = Path(file)
    proposal = _proposal(author, path)
    repository = author.open()
    with author.explained():
        steps = list(play(repository, proposal, state=author.memory()))
    return Result(
        data={
            "repository": repository.url,
            "version": proposal.version,
            "sha256": proposal.digest,
            "steps": steps,
        },
        lines=[
            f"rehearsed root v{proposal.version} on a copy of {repository.url}",
            *(f"  {one}" for one in steps),
            f"next: {PROGRAM} root sign {path} --key …",
        ],
    )
