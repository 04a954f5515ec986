"""What a vendor submits, signed by several of its holders one after the other.

The same commands as for a root proposal: a file goes from hand to hand until enough
keys have signed it (`release submit FILE` hands it in). A holder sees before what it
changes. Without the repository, of which only a root is at hand, that is what it says:
whose keys count, and what stood before, is then found by whoever has the repository.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.confirming import confirm
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.options import missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_describe import tell
from margo_supplychain.cli.root_files import typed_place
from margo_supplychain.cli.signing_keys import PUBLISHER, RELEASE, open_signers
from margo_supplychain.cli.submission_describe import MANY_ROWS, change_lines, heading
from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_changes import RoleChange
    from margo_supplychain.cli.root_files import Trust
    from margo_supplychain.formats.tuf_metadata import RoleFile


class _View(NamedTuple):
    """What a submission is measured by.

    Args:
        who: who must sign each role; those are left out of which nobody knows it here.
        changes: what it changes.
        holders: of the keys, as far as they are known.
        unchecked: what nobody could look at here, one line each.
    """

    who: Mapping[str, RoleSigners]
    changes: tuple[RoleChange, ...]
    holders: Mapping[str, Holder]
    unchecked: tuple[str, ...]


def sign(
    trust: Trust, path: Path, target: Path, *, keys: tuple[str, ...], yes: bool
) -> Result:
    """Show a submission, sign what its holder may sign of it, and write it again."""
    from margo_supplychain.authoring.submission_file import save_submission

    author = trust.author
    with opened(path) as submission:
        view = _view(trust, submission)
        # What nobody has read, nobody should sign: here no row is left out.
        tell(author.invocation, _shown(submission, view, most=None), yes=yes)
        confirm("sign this?", yes=yes)
        signed = submission
        with author.keyring() as keyring:
            for signer in open_signers(
                keyring, author.invocation, given=keys, settings=(*PUBLISHER, *RELEASE)
            ):
                signed = signed.sign(signer, view.who)
        save_submission(target, signed, replaces=target == path)
        return _standing(
            signed, view, target, lines=[_signed(submission, signed, view)]
        )


def merge(trust: Trust, paths: Sequence[Path], target: Path) -> Result:
    """Bring together what holders signed apart, and write it."""
    from margo_supplychain.authoring.submission_file import save_submission

    if not trust.author.place:
        raise click.UsageError(
            f"{missing_setting('repo')}: it says which keys sign a submission; without "
            "it, let its holders sign one file one after the other"
        )
    with opened(paths[0]) as first:
        view = _view(trust, first)
        merged = first
        for path in paths[1:]:
            with opened(path) as other:
                merged = merged.merge(other, who=view.who)
        save_submission(target, merged, replaces=target in paths)
        counted = describe.counted(len(paths), "file")
        lines = [*heading(merged), f"merged {counted} into {target}"]
        return _standing(merged, view, target, lines=lines)


def status(trust: Trust, path: Path) -> Result:
    """Say who has signed a submission, and who must sign next."""
    with opened(path) as submission:
        view = _view(trust, submission)
        return _standing(submission, view, path, lines=heading(submission))


def show(trust: Trust, path: Path) -> Result:
    """Show what a submission changes, and who has signed it."""
    with opened(path) as submission:
        view = _view(trust, submission)
        lines = _shown(submission, view)
        return _standing(submission, view, path, lines=lines)._replace(exit_status=0)


@contextmanager
def opened(path: Path) -> Iterator[Submission]:
    """Open the file of a submission that somebody handed over.

    Raises:
        FormatError: it is none, or damaged.
    """
    from margo_supplychain.authoring.submission_file import open_submission

    try:
        with open_submission(path) as submission:
            yield submission
    except FormatError as why:
        if why.hint == why.default_hint:
            why.hint = (
                f"{path} was cut or changed on its way: ask whoever sent it for it "
                "again; nothing was changed"
            )
        raise


def _view(trust: Trust, submission: Submission) -> _View:
    """Return what a submission is measured by.

    Raises:
        click.UsageError: there is neither a repository nor a root.
    """
    from margo_supplychain.authoring.submission_changes import role_changes

    if trust.author.place:
        state, prospect = _repository(trust)
        return _View(
            submission.signers(state),
            role_changes(submission, prospect),
            _holders(submission, state),
            (),
        )
    chain = trust.chain()
    if chain is None:
        raise click.UsageError(
            f"{missing_setting('repo')}: it says which keys sign a submission; or name "
            "the root that you trust, to sign without a repository: --root FILE"
        )
    return _View(
        submission.signers_apart(chain.trusted.signed),
        role_changes(submission, None),
        _holders(submission, None),
        (
            "which keys of the publisher count, and how many must sign",
            "what of it is new: all that it says is shown",
            "whether the operator would take it",
        ),
    )


def _repository(trust: Trust) -> tuple[State, Prospect]:
    """Return the operator's repository, verified: it says whose keys count."""
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.cli.root_files import ROOT_LIMIT

    author = trust.author
    root = None
    if author.root is not None:
        root = read_named(author.root, limit=ROOT_LIMIT, what="a root")
    mirrors, network = author.invocation.settings.registries
    view = Repository.view(
        author.place, root=root, network=network, mirrored=mirrors.places
    )
    with author.explained():
        start = view.handing(state=author.memory())
        state = start.load()
        return state, Prospect(state, start.place, now=start.now)


def _shown(
    submission: Submission, view: _View, *, most: int | None = MANY_ROWS
) -> list[str]:
    """Return what somebody sees before signing."""
    return [
        *heading(submission),
        *change_lines(view.changes, most=most),
        *(f"  not checked: {one}" for one in view.unchecked),
    ]


def _signed(before: Submission, after: Submission, view: _View) -> str:
    """Return who has signed what just now."""
    found: dict[str, list[str]] = {}
    for one in after.roles:
        old = before.role(one.role)
        had = () if old is None else old.metadata.signatures
        for keyid in one.metadata.signatures:
            if keyid not in had:
                found.setdefault(keyid, []).append(one.role)
    if not found:
        return "unchanged: signed before"
    return "; ".join(
        f"signed by {_names([keyid], view.holders)}: {', '.join(roles)}"
        for keyid, roles in found.items()
    )


def _standing(
    submission: Submission, view: _View, path: Path, *, lines: list[str]
) -> Result:
    rows, lacking = [], []
    for one in submission.status(view.who):
        missing = _names(one.missing, view.holders)
        rows.append(
            (
                one.role,
                f"{len(one.signers)} of {one.needed}",
                f"signed {_names(one.keyids, view.holders) or 'by nobody'}",
            )
        )
        if not one.met:
            more = one.needed - len(one.signers)
            lacking.append(f"{one.role} needs {more} more of {missing}")
    unknown = [one for one in submission.roles if one.role not in view.who]
    rows += [
        (
            one.role,
            "not counted",
            f"signed {_names([*one.metadata.signatures], view.holders) or 'by nobody'}",
        )
        for one in unknown
    ]
    is_complete = not (lacking or unknown)
    return Result(
        data={
            "file": str(path),
            "publisher": submission.publisher,
            "sha256": submission.said,
            "complete": False if lacking else None if unknown else True,
            "roles": [
                *(_role(one, submission) for one in submission.status(view.who)),
                *(_uncounted(one) for one in unknown),
            ],
            "lacking": lacking,
            "changes": [one.to_dict() for one in view.changes],
            "unchecked": list(view.unchecked),
        },
        lines=[
            *lines,
            *describe.table(rows),
            *_next(submission, path, lacking, is_complete=is_complete),
        ],
        exit_status=0 if is_complete else 5,
    )


def _next(
    submission: Submission, path: Path, lacking: list[str], *, is_complete: bool
) -> Iterator[str]:
    if lacking:
        yield f"incomplete: {'; '.join(lacking)}"
        yield (
            f"next: send {path} to one of them: {PROGRAM} root sign {path}"
            f"{typed_place()} --key …"
        )
    elif is_complete:
        yield f"complete: {submission.label} has every signature it needs"
        yield f"next: {PROGRAM} release submit {path}"
    else:
        yield (
            f"next: send {path} back to whoever has the repository: {PROGRAM} root "
            f"status {path}"
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


def _uncounted(one: RoleFile[Targets]) -> dict[str, Any]:
    return {
        "role": one.role,
        "version": one.version,
        "needed": None,
        "signed": None,
        "signedKeyIds": list(one.metadata.signatures),
        "missingKeyIds": [],
    }


def _holders(submission: Submission, state: State | None) -> dict[str, Holder]:
    from margo_supplychain.authoring.holders import known_holders

    found: dict[str, Holder] = {}
    if state is not None:
        found.update(known_holders(state.trusted("targets").signed))
    own = submission.role(submission.publisher)
    if own is not None:
        # Whoever proposes it must not name the holders that the operator named.
        found = {**known_holders(own.signed), **found}
    return found


def _names(keyids: Sequence[str], known: Mapping[str, Holder]) -> str:
    from margo_supplychain.authoring.holders import named

    return ", ".join(dict.fromkeys(named(one, known) for one in keyids))
