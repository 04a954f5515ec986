"""`root draft`: the targets that goes with a proposed root, for holders apart.

One file more that travels with the proposal. Its holders sign it by `root sign`, with
`--proposal`, which says whose keys count; `root finalize --with` adopts both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.author import Author, reads
from margo_supplychain.cli.confirming import confirm
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_describe import tell
from margo_supplychain.cli.root_files import Trust, drafted, typed_place, write_fresh
from margo_supplychain.cli.signing_keys import TARGETS, open_signers
from margo_supplychain.errors import FetchError, FormatError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus

proposal_option = click.option(
    "--proposal",
    metavar="FILE",
    help="FILE is a draft of targets (`root draft`): the proposed root it goes with.",
)


class _Shown(NamedTuple):
    """A draft, and what was found out of it.

    Args:
        draft: with the signatures that it has.
        proposal: where the proposed root lies.
        path: where the draft lies.
        compared: what it was compared with, for people; None if with nothing.
        standing: the same, verified.
        is_apart: whether who looks at it has no repository to go on with.
    """

    draft: TargetsDraft
    proposal: Path
    path: Path
    compared: str | None
    is_apart: bool = False
    standing: RoleFile[Targets] | None = None


@click.command(
    epilog=epilog(
        examples=[
            "root draft root-2.json",
            "root draft root-2.json --out stick/root-2.targets.json",
        ],
        exits=[0, 2, 3, 4],
        follow="root sign root-2.targets.json --proposal root-2.json --key t.key",
    )
)
@click.argument("file", metavar="PROPOSAL")
@click.option("--out", metavar="FILE", help="Where to write it, else beside PROPOSAL.")
@reads
def draft(author: Author, *, file: str, out: str | None) -> Result:
    """Write the targets that goes with a proposed root, for its holders to sign.

    If that root gives the role targets other keys or more of them, and their holders
    are apart: they sign this file, and `root finalize --with` takes it. It says what
    stands, under the next version. Signed by the keys before as well, it is handed over
    so that no device meets a gap.
    """
    path = Path(file)
    target = Path(out) if out else drafted(path)
    proposal = Trust(author=author, roots=()).read(path)
    with author.explained():
        found = author.open().draft_targets(proposal, state=author.memory())
    write_fresh(target, found.data)
    shown = _Shown(found, path, target, "what stands")
    return Result(
        data=_data(shown),
        lines=[f"drafted {found.file.label}: {target}", *_rows(shown), _next(shown)],
    )


def sign(
    trust: Trust,
    shown: tuple[Path, Path, Path],
    *,
    keys: tuple[str, ...],
    yes: bool,
) -> Result:
    """Show a draft, sign it with what holders give, and write it again.

    Args:
        trust: what the proposal is measured by.
        shown: the draft's file, the one to write, and the proposal's.
        keys: whose, else those of the settings.
        yes: whether to sign without asking.
    """
    path, target, proposal = shown
    author = trust.author
    before = _read(trust, path, proposal)
    before.draft.require_signable(before.standing)
    before.draft.require_lasting(describe.now())
    tell(author.invocation, _rows(before), yes=yes)
    confirm("sign this?", yes=yes)
    signed = before.draft
    with author.keyring() as keyring:
        for signer in open_signers(
            keyring, author.invocation, given=keys, settings=TARGETS
        ):
            signed = signed.sign(signer, standing=before.standing)
    new = sorted(signed.signed_by - before.draft.signed_by)
    signed = _save(target, signed)
    names = _names(signed, new)
    lines = [f"signed by {names}" if names else "unchanged: signed before"]
    return _standing(before._replace(draft=signed, path=target), lines)


def merge(
    trust: Trust, paths: Sequence[Path], target: Path, *, proposal: Path
) -> Result:
    """Bring together what holders signed apart, and write it."""
    first = _read(trust, paths[0], proposal)
    merged = first.draft
    for path in paths[1:]:
        merged = merged.merge(_parsed(path, _proposed(trust, proposal)))
    merged = _save(target, merged)
    lines = [f"merged {describe.counted(len(paths), 'file')} into {target}"]
    return _standing(first._replace(draft=merged, path=target), lines)


def status(trust: Trust, path: Path, *, proposal: Path) -> Result:
    """Say who has signed a draft, and who must sign next."""
    shown = _read(trust, path, proposal)
    return _standing(shown, _rows(shown))


def complete(proposal: RootProposal, path: Path, given: Path) -> TargetsDraft:
    """Return a draft that enough keys of the proposed root have signed.

    Args:
        proposal: the root that it goes with.
        path: where the draft lies.
        given: where the proposal lies.

    Raises:
        IncompleteError: they have not; says who is asked next.
        RefusedError, FormatError: it was changed, or is another file.
    """
    from margo_supplychain.errors import IncompleteError

    found = _parsed(path, proposal)
    try:
        found.require_complete()
    except IncompleteError as why:
        shown = _Shown(found, given, path, None)
        why.hint = f"{_next(shown).removeprefix('next: ')}; nothing was changed"
        raise
    return found


# --- files ---------------------------------------------------------------------------


def _proposed(trust: Trust, path: Path) -> RootProposal:
    return trust.read(path)


def _read(trust: Trust, path: Path, proposal: Path) -> _Shown:
    """Read a draft, and compare it with what stands if a repository is at hand.

    Raises:
        RefusedError: it would change something.
    """
    found = _parsed(path, _proposed(trust, proposal))
    author, standing = trust.author, None
    if author.place:
        try:
            state = author.open().begun(state=author.memory())
        except (VerificationError, FetchError):
            state = None  # what a thief left: `root finalize` finds what stands
        if state is not None:
            standing = state.trusted("targets").file
            found.require_follows(standing)
    compared = None if standing is None else standing.label
    return _Shown(found, proposal, path, compared, not author.place, standing)


def _parsed(path: Path, proposal: RootProposal) -> TargetsDraft:
    """Parse a draft as what goes with a proposal.

    Raises:
        FormatError: it is none, or a first root has none.
        RefusedError: signatures are not its own.
    """
    from margo_supplychain.authoring.state import LIMITS
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.errors import MetadataFormatError

    trusted = proposal.trusted
    if trusted is None:
        raise MetadataFormatError(f"{proposal.root.label} is a first root")
    data = read_named(path, limit=LIMITS.targets, what="a draft of targets")
    try:
        return TargetsDraft.parse(data, trusted=trusted, proposed=proposal.root)
    except FormatError as why:
        raise MetadataFormatError(
            f"{path}: {why}",
            hint="with --proposal or --with goes what `root draft` wrote; nothing was "
            "changed",
        ) from why


def _save(path: Path, draft: TargetsDraft) -> TargetsDraft:
    """Write a draft; signatures that its file has got meanwhile are kept.

    Raises:
        RefusedError: the file is something else, or another draft.
    """
    from margo_supplychain.authoring.state import LIMITS
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.cli.root_files import another
    from margo_supplychain.storage import durable

    if os.path.lexists(path):
        data = read_named(path, limit=LIMITS.targets, what="a draft of targets")
        try:
            there = TargetsDraft.parse(
                data, trusted=draft.trusted, proposed=draft.proposed
            )
        except FormatError as why:
            raise another(path) from why
        draft = draft.merge(there)
        if draft.data == there.data:
            return there
    durable.write_file(path, draft.data)
    return draft


# --- words ---------------------------------------------------------------------------


def _rows(shown: _Shown) -> list[str]:
    """Return what a draft is: what a signer sees before signing."""
    import hashlib

    from margo_supplychain.authoring.draft_form import field_rows
    from margo_supplychain.formats.times import format_time

    draft = shown.draft
    proposed = hashlib.sha256(draft.proposed.payload).hexdigest()
    rows = [
        ("proposal", f"sha256 {proposed}"),
        ("draft", f"sha256 {draft.digest}"),
        ("expiry", format_time(draft.file.expires)),
    ]
    for one in draft.publishers():
        # Where nothing compares them, a person does: whole.
        length = 64 if shown.compared is None else 12
        keys = ", ".join(keyid[:length] for keyid in one.keys)
        rows.append(("publisher", f"{one.role}  {one.threshold} of {keys}"))
    if shown.compared is None:
        rows += field_rows(draft.file)
        rows.append(("changes", "not compared: what stands is not at hand here"))
    else:
        rows.append(("changes", f"nothing but version and expiry of {shown.compared}"))
    old, new = draft.trusted.version, draft.proposed.version
    heading = f"{draft.file.label} under root v{old} -> v{new}"
    return [heading, *describe.table(rows)]


def _names(draft: TargetsDraft, keyids: Sequence[str]) -> str:
    from margo_supplychain.authoring.holders import named

    return ", ".join(dict.fromkeys(named(one, draft.holders) for one in keyids))


def _of(status: ThresholdStatus) -> str:
    return f"{min(len(status.signers), status.needed)} of {status.needed}"


def _standing(shown: _Shown, lines: list[str]) -> Result:
    """Return a result that ends with who must act next; 5 while signatures lack."""
    draft = shown.draft
    lacking = draft.lacking()
    lines = [
        *lines,
        f"signed: old root {_of(draft.old)}, new root {_of(draft.new)}",
    ]
    if lacking:
        lines.append(f"incomplete: {'; '.join(lacking)}")
    elif draft.old.met:
        lines.append(
            f"complete: {draft.file.label} is handed over, and no device meets a gap"
        )
    else:
        more = draft.old.needed - len(draft.old.signers)
        lines.append(
            f"complete: {draft.file.label} can be adopted; if {more} more of "
            f"{_names(draft, draft.old.missing)} signed it, no device would meet a gap"
        )
    return Result(
        data=_data(shown),
        lines=[*lines, _next(shown)],
        exit_status=5 if lacking else 0,
    )


def _next(shown: _Shown) -> str:
    draft, path, proposal = shown.draft, shown.path, shown.proposal
    if draft.new.met:
        command = f"{PROGRAM} root finalize {proposal} --with {path}"
        if shown.is_apart:
            return f"next: send {path} to whoever proposed it: {command}"
        return f"next: {command}{typed_place()}"
    asked = [*draft.new.missing]
    # Who would count for both roots is asked first.
    asked.sort(key=lambda keyid: keyid not in draft.old.missing)
    return (
        f"next: send {proposal} and {path} to {_names(draft, asked[:1])}: {PROGRAM} "
        f"root sign {path} --proposal {proposal} --key …"
    )


def _data(shown: _Shown) -> dict[str, Any]:
    draft = shown.draft
    return {
        "file": str(shown.path),
        "version": draft.file.version,
        "sha256": draft.digest,
        "expires": draft.file.expires,
        "proposal": str(shown.proposal),
        "root": draft.proposed.version,
        "publishers": [
            {
                "name": one.role,
                "threshold": one.threshold,
                "keyIds": list(one.keys),
            }
            for one in draft.publishers()
        ],
        "compared": shown.compared is not None,
        "complete": draft.new.met,
        "withoutGap": draft.new.met and draft.old.met,
        "oldRoot": _status(draft.old),
        "newRoot": _status(draft.new),
        "lacking": list(draft.lacking()),
    }


def _status(status: ThresholdStatus) -> dict[str, Any]:
    return {
        "needed": status.needed,
        "signed": len(status.signers),
        "met": status.met,
        "signedKeyIds": list(status.keyids),
        "missingKeyIds": list(status.missing),
    }
