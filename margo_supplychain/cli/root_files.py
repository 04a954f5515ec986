"""What the root commands read and write: a proposal, and what it is measured by.

A file that was passed from hand to hand is believed in nothing: it is parsed as the
successor of a root that this person trusts, from the repository or from files.
"""

from __future__ import annotations

import functools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.author import Author
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.options import setting_option
from margo_supplychain.errors import (
    FormatError,
    MetadataFormatError,
    RefusedError,
    StorageError,
    VerificationError,
)
from margo_supplychain.storage.durable import open_regular, storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.authoring.root_chain import RootChain
    from margo_supplychain.cli.output import Result
    from margo_supplychain.formats.tuf_metadata import RoleFile

ROOT_LIMIT: Final = 512_000  # bytes, as devices have it; a test compares
_HEAD: Final = 512  # bytes: a tar's first block


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a person measures a proposal by: a repository, or roots on a stick.

    Args:
        author: the repository and the memory of it, if there is one.
        roots: files of roots, each following the one before.
    """

    author: Author
    roots: tuple[Path, ...]

    def chain(self) -> RootChain | None:
        """Return the verified roots; None if neither is given.

        Raises:
            VerificationError: a root does not follow the one before it.
            FormatError: no such file.
        """
        from margo_supplychain.authoring.root_chain import follow

        if self.author.place:
            author = self.author
            with author.explained():
                return author.open().roots(state=author.memory())
        if not self.roots:
            return None
        files = [read_named(one, limit=ROOT_LIMIT, what="a root") for one in self.roots]
        for path, data in zip(self.roots, files, strict=True):
            parsed(path, data)
        try:
            return follow(files)
        except VerificationError as why:
            why.hint = (
                "--root takes the root that you trust, then each root after it, in "
                "order; nothing was changed"
            )
            raise

    def read(self, path: Path) -> RootProposal:
        """Return a proposal that can still be used, as the successor of what stands.

        Raises:
            FormatError: no such file, or no root.
            RefusedError: it follows another root, or would lock somebody out.
        """
        return judge(path, read_root(path), self.chain())


def judge(path: Path, data: bytes, chain: RootChain | None) -> RootProposal:
    """Return the unverified bytes of a file as what follows a chain of roots.

    Raises:
        FormatError: they are no root.
        RefusedError: it is adopted, follows another root or would lock somebody out.
    """
    from margo_supplychain.authoring.proposal_rules import check_adopted
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.cli.describe import now

    found = parsed(path, data)
    if chain is not None:
        check_adopted(found, chain.roots)
    trusted = None if chain is None else chain.trusted.data
    proposal = RootProposal.parse(data, trusted=trusted)
    proposal.check_time(now())
    if chain is not None:
        proposal.check_returning(chain.signed)
    return proposal


def parsed(path: Path, data: bytes) -> RoleFile[Root]:
    """Parse what should be a root that somebody handed over.

    Raises:
        FormatError: it is none; names the file.
    """
    from margo_supplychain.formats.tuf_metadata import parse_root

    try:
        return parse_root(data, limit=ROOT_LIMIT)
    except FormatError as why:
        raise MetadataFormatError(
            f"{path}: {why}",
            hint="it is another file, or was cut or changed on its way: ask whoever "
            "sent it for it again; nothing was changed",
        ) from why


def read_root(path: Path) -> bytes:
    """Read what should be a root proposal.

    Raises:
        FormatError: there is none, or it is larger than any root.
    """
    return read_named(path, limit=ROOT_LIMIT, what="a root proposal")


def is_submission(path: Path) -> bool:
    """Tell by its first bytes whether a file is what a vendor submits."""
    from margo_supplychain.authoring import submission_file

    try:
        # A pipe is never waited on.
        with storage_errors(path, "read"), open_regular(path) as stream:
            return submission_file.is_submission(stream.read(_HEAD))
    except StorageError:
        return False  # who reads all of it says what is wrong


def save(path: Path, proposal: RootProposal) -> RootProposal:
    """Write a proposal; signatures that its file has got meanwhile are kept.

    On a shared disk two people may sign at once, and `--out` may name a copy.

    Returns:
        What is there now.

    Raises:
        RefusedError: the file is something else, or another proposal.
    """
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.storage import durable

    trusted = None if proposal.trusted is None else proposal.trusted.data
    if os.path.lexists(path):
        try:
            there = RootProposal.parse(read_root(path), trusted=trusted)
        except FormatError as why:
            raise another(path) from why
        proposal = proposal.merge(there)
        if proposal.data == there.data:
            return there
    durable.write_file(path, proposal.data)
    return proposal


def write_fresh(path: Path, data: bytes) -> None:
    """Write a new proposal, or bytes to sign, where nothing else is.

    Raises:
        RefusedError: something is there: signatures could be lost.
    """
    from margo_supplychain.errors import ConflictError
    from margo_supplychain.storage import durable

    try:
        durable.write_new_file(path, data)
    except ConflictError as why:
        raise another(path) from why


def another(path: Path) -> RefusedError:
    """Return why nothing is written over a file."""
    return RefusedError(
        f"{path} exists, and is another file",
        hint="it may hold signatures: name a file that is not there; nothing was "
        "written",
    )


def trusts(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command `--repo`, `--state` and `--root`, as one argument, a `Trust`."""

    @setting_option("repo", help="The repository: DIR or oci://…", required=False)
    @setting_option("state", help="Your memory of it.", required=False)
    @setting_option(
        "root",
        help="Without a repository: the root that you trust; then each root after it.",
        required=False,
        multiple=True,
    )
    @functools.wraps(command)
    def with_trust(
        *arguments: Any,
        repo: str | None,
        state: str | None,
        root: tuple[str, ...],
        **options: Any,
    ) -> Result:
        if _typed("root") and not _typed("repo"):
            # Whoever names files means them, also where a repository has defaults.
            repo, state = None, None
        invocation = click.get_current_context().find_object(Invocation)
        if invocation is None:
            raise TypeError("this command runs below `main` alone")
        roots = tuple(Path(one) for one in root)
        author = Author(
            invocation=invocation,
            place=repo or "",
            state=Path(state) if state else None,
            root=roots[0] if roots else None,
        )
        trust = Trust(author=author, roots=roots)
        return command(trust, *arguments, **options)

    return with_trust


def drafted(path: Path) -> Path:
    """Return where `root draft` writes the targets that goes with a proposal."""
    return path.with_suffix(".targets.json")


def typed_place() -> str:
    """Return ` --repo …`, ` --state …`, ` --root …` as typed, for the next command."""
    given = click.get_current_context().params
    words = []
    for name in ("repo", "state", "root"):
        if given.get(name) and _typed(name):
            values = given[name] if isinstance(given[name], tuple) else [given[name]]
            words += [f" --{name} {shlex.quote(one)}" for one in values]
    return "".join(words)


def _typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE
