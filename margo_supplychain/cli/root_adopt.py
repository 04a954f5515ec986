"""`root finalize` and `root rehearse`: a signed root becomes the repository's."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from margo_supplychain.cli import root_describe as show
from margo_supplychain.cli import root_draft
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
from margo_supplychain.cli.root_files import judge, parsed, read_root, typed_place
from margo_supplychain.cli.signing_keys import ONLINE, TARGETS
from margo_supplychain.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
    from margo_supplychain.authoring.root_chain import RootChain
    from margo_supplychain.authoring.written import Written
    from margo_supplychain.formats.tuf_metadata import RoleFile


def _chain(author: Author, path: Path, root: RoleFile[Root]) -> RootChain:
    """Return the repository's roots.

    Raises:
        click.UsageError: no repository is named.
    """
    if not author.place:
        text = missing_setting("repo")
        if root.version == 1:
            text += f"; of a first root one is made: repo init DIR --signed-root {path}"
        raise click.UsageError(text)
    with author.explained():
        return author.open().roots(state=author.memory())


def _adopting(author: Author, path: Path) -> tuple[RootProposal, bool]:
    """Read a proposal, and say whether it is the newest root already.

    That one is gone on with as it stands there: a copy that lacks signatures asks
    nobody for them again.
    """
    data = read_root(path)
    root = parsed(path, data)
    chain = _chain(author, path, root)
    newest = chain.trusted
    if len(chain.roots) > 1 and newest.payload == root.payload:
        before = chain._replace(roots=chain.roots[:-1])
        return judge(path, newest.data, before), True
    return judge(path, data, chain), False


@click.command(
    epilog=epilog(
        examples=[
            "root finalize root-2.json",
            "root finalize root-2.json --key new-targets.key --key new-online.key",
            "root finalize root-2.json --with root-2.targets.json",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo check",
    )
)
@click.argument("file", metavar="FILE")
@click.option(
    "--with",
    "apart",
    metavar="FILE",
    help="What holders of targets signed apart (`root draft`).",
)
@signs
def finalize(author: Author, *, file: str, apart: str | None) -> Result:
    """Make a root that enough holders signed the repository's own.

    Signs again what its new keys must sign, with --key or the keys of this place, and
    lets a fresh device and one with the previous state judge it before anything is
    written. With --with no key of targets is needed here. Run again, it goes on where
    it was stopped.
    """
    path = Path(file)
    proposal, is_there = _adopting(author, path)
    signed = _complete(proposal, path)
    targets = None
    if apart is not None:
        targets = root_draft.complete(proposal, Path(apart), path).data
    repository = author.open()
    with _explained(path, proposal, targets), hinted(UNPUBLISHED), author.explained():
        written = _adopt(author, proposal, signed, targets, is_there=is_there)
    again = ", ".join(
        f"{role} v{version}"
        for role, (version, _) in written.roles.items()
        if role != "root"
    )
    lines = [
        f"adopted root v{signed.version} in {repository.url}",
        f"  signed again  {again or 'nothing: all of it stands'}",
        "  checked       as a fresh device would, and as one with the state before",
    ]
    if is_there and not written.roles:
        lines = [f"unchanged: root v{signed.version} is adopted in {repository.url}"]
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
            *lines,
            *_settings(author, signed.root.signed),
            f"next: {PROGRAM} repo check{typed_place()}",
        ],
    )


def _settings(author: Author, root: Root) -> list[str]:
    """Return which settings still name keys that this root has not."""
    from margo_supplychain.authoring.plan import TOP_ROLES
    from margo_supplychain.cli.missing_keys import stale_settings

    roles = {role: tuple(root.roles[role].keyids) for role in TOP_ROLES}
    return [f"settings: {one}" for one in stale_settings(author, roles)]


@contextmanager
def _explained(
    path: Path, proposal: RootProposal, targets: bytes | None
) -> Iterator[None]:
    """Say what to do where the keys of targets are elsewhere."""
    try:
        yield
    except IncompleteError as why:
        if targets is None and "targets" in proposal.difference().renewals:
            why.hint = (
                f"{why.hint}. Keys of targets that are elsewhere sign what "
                f"`{PROGRAM} root draft {path}` writes (--with)"
            )
        raise


def _adopt(
    author: Author,
    proposal: RootProposal,
    signed: SignedRoot,
    targets: bytes | None,
    *,
    is_there: bool,
) -> Written:
    """Adopt a root; keys are opened, and secrets asked for, if something is signed."""
    adopt = partial(
        author.open().adopt_root,
        signed,
        targets=targets,
        time_checked=author.time_checked,
        state=author.memory(),
    )
    if is_there or not (author.keys or proposal.difference().renewals):
        with suppress(IncompleteError):
            return adopt(())
    with author.keyring() as keyring:
        # Who signed apart is not asked for a passphrase here.
        offline = TARGETS if targets is None else ()
        return adopt(author.signers(keyring, *offline, *ONLINE))


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

    Keys that leave may be lost: they sign only if it can't be done without, and that is
    said. Shows what `root finalize` would do, and whether devices would follow; the
    repository and FILE stay as they are.
    """
    from margo_supplychain.authoring.rehearsing import rehearse as play

    path = Path(file)
    data = read_root(path)
    proposal = judge(path, data, _chain(author, path, parsed(path, data)))
    repository = author.open()
    with author.explained():
        steps = list(play(repository, proposal, state=author.memory()))
    return Result(
        data={
            "repository": repository.url,
            "version": proposal.version,
            "sha256": proposal.digest,
            "leavingKeysNeeded": _leaving_needed(proposal),
            "steps": steps,
        },
        lines=[
            f"rehearsed root v{proposal.version} on a copy of {repository.url}",
            *(f"  {one}" for one in steps),
            f"next: {PROGRAM} root sign {path}{typed_place()} --key …",
        ],
    )


def _leaving_needed(proposal: RootProposal) -> int:
    from margo_supplychain.authoring.effects import leaving_needed

    if proposal.trusted is None:
        return 0
    return leaving_needed(proposal.trusted.signed, proposal.root.signed)
