"""What a vendor submits, signed by several of its holders one after the other.

The same commands as for a root proposal: a file goes from hand to hand until enough
keys have signed it (`release submit FILE` hands it in).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.confirming import confirm
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.options import missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_describe import tell
from margo_supplychain.cli.signing_keys import PUBLISHER, RELEASE, open_signers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.cli.root_files import Trust


def sign(
    trust: Trust, path: Path, target: Path, *, keys: tuple[str, ...], yes: bool
) -> Result:
    """Show a submission, sign what its holder may sign of it, and write it again."""
    from margo_supplychain.authoring.submission_file import save_submission

    author = trust.author
    with _opened(path) as submission:
        state = _state(trust)
        who = submission.signers(state)
        tell(author.invocation, _heading(submission), yes=yes)
        confirm("sign this?", yes=yes)
        signed = submission
        with author.keyring() as keyring:
            for signer in open_signers(
                keyring, author.invocation, given=keys, settings=(*PUBLISHER, *RELEASE)
            ):
                signed = signed.sign(signer, who)
        save_submission(target, signed, replaces=target == path)
        return _standing(signed, who, target, state)


def merge(trust: Trust, paths: Sequence[Path], target: Path) -> Result:
    """Bring together what holders signed apart, and write it."""
    from margo_supplychain.authoring.submission_file import save_submission

    state = _state(trust)
    with _opened(paths[0]) as first:
        who = first.signers(state)
        merged = first
        for path in paths[1:]:
            with _opened(path) as other:
                merged = merged.merge(other, who=who)
        save_submission(target, merged, replaces=target in paths)
        return _standing(merged, who, target, state)


def status(trust: Trust, path: Path) -> Result:
    """Say who has signed a submission, and who must sign next."""
    with _opened(path) as submission:
        state = _state(trust)
        return _standing(submission, submission.signers(state), path, state)


@contextmanager
def _opened(path: Path) -> Iterator[Submission]:
    from margo_supplychain.authoring.submission_file import open_submission

    with open_submission(path) as submission:
        yield submission


def _state(trust: Trust) -> State:
    """Return the operator's repository, verified: it says whose keys count."""
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.cli.root_files import ROOT_LIMIT

    author = trust.author
    if not author.place:
        raise click.UsageError(
            f"{missing_setting('repo')}: it says which keys sign a submission"
        )
    root = None
    if author.root is not None:
        root = read_named(author.root, limit=ROOT_LIMIT, what="a root")
    mirrors, network = author.invocation.settings.registries
    view = Repository.view(
        author.place, root=root, network=network, mirrored=mirrors.places
    )
    with author.explained():
        return view.handing(state=author.memory()).load()


def _heading(submission: Submission) -> list[str]:
    rows = [("roles", submission.label)]
    rows += [("lists", str(one.path)) for one in submission.targets[:10]]
    if len(submission.targets) > 10:
        rows.append(("", f"and {len(submission.targets) - 10} more"))
    if submission.note is not None:
        rows.append(("note", submission.note))
    return [f"submission of {submission.publisher}", *describe.table(rows)]


def _standing(
    submission: Submission,
    who: Mapping[str, RoleSigners],
    path: Path,
    state: State,
) -> Result:
    known = _holders(submission, state)
    rows, lacking = [], []
    for one in submission.status(who):
        missing = _names(one.missing, known)
        rows.append(
            (
                one.role,
                f"{len(one.signers)} of {one.needed}",
                f"signed {_names(one.keyids, known) or 'by nobody'}",
            )
        )
        if not one.met:
            more = one.needed - len(one.signers)
            lacking.append(f"{one.role} needs {more} more of {missing}")
    lines = [*_heading(submission), *describe.table(rows)]
    if lacking:
        lines += [
            f"incomplete: {'; '.join(lacking)}",
            f"next: send {path} to one of them: {PROGRAM} root sign {path} --key …",
        ]
    else:
        lines += [
            f"complete: {submission.label} has every signature it needs",
            f"next: {PROGRAM} release submit {path}",
        ]
    return Result(
        data={
            "file": str(path),
            "publisher": submission.publisher,
            "complete": not lacking,
            "roles": [_role(one, submission) for one in submission.status(who)],
            "lacking": lacking,
        },
        lines=lines,
        exit_status=5 if lacking else 0,
    )


def _role(status: Any, submission: Submission) -> dict[str, Any]:
    file = submission.role(status.role)
    return {
        "role": status.role,
        "version": None if file is None else file.version,
        "needed": status.needed,
        "signed": len(status.signers),
        "signedKeyIds": list(status.keyids),
        "missingKeyIds": list(status.missing),
    }


def _holders(submission: Submission, state: State) -> dict[str, Holder]:
    from margo_supplychain.authoring.holders import known_holders

    found = {**known_holders(state.trusted("targets").signed)}
    own = submission.role(submission.publisher)
    if own is not None:
        found.update(known_holders(own.signed))
    return found


def _names(keyids: Sequence[str], known: Mapping[str, Holder]) -> str:
    from margo_supplychain.authoring.holders import named

    return ", ".join(dict.fromkeys(named(one, known) for one in keyids))
