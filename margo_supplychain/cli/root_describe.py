"""How a root proposal is shown: what it changes, who signed, who must sign next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from margo_supplychain.cli import describe
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_files import drafted, typed_place

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.cli.root_files import Trust
    from margo_supplychain.threshold import ThresholdStatus

_EMPTY: Mapping[str, Any] = {}


def heading(proposal: RootProposal) -> str:
    """Return `root v1 -> v2`, or `root v1` of a first root."""
    if proposal.trusted is None:
        return f"root v{proposal.version}, the first"
    return f"root v{proposal.trusted.version} -> v{proposal.version}"


def change(proposal: RootProposal) -> list[str]:
    """Return what a proposal changes: what a signer sees before signing."""
    found = list(proposal.difference().rows(describe.moment, now=describe.now()))
    width = max((len(row.text) for row in found if row.meaning), default=0)
    # Whole: comparing them by telephone is what they are there for.
    rows = compared(proposal)
    rows += [(row.label, _meant(row.text, row.meaning, width)) for row in found]
    return [heading(proposal), *describe.table(rows)]


def compared(proposal: RootProposal) -> list[tuple[str, str]]:
    """Return what holders compare: what is signed, and the root it is measured by.

    A root that somebody else put on the stick makes another change of the same bytes.
    """
    rows = [("proposal", f"sha256 {proposal.digest}")]
    if proposal.trusted is not None:
        trusted = proposal.trusted
        rows.append(("trusted", f"{trusted.label} sha256 {trusted.sha256}"))
    return rows


def _meant(text: str, meaning: str, width: int) -> str:
    return f"{text:<{width}}  {meaning}" if meaning else text


def tell(invocation: Invocation, lines: Sequence[str], *, yes: bool) -> None:
    """Show what somebody is about to agree to; -q and `--yes` together want no word."""
    if yes and invocation.verbosity < 0:
        return
    for line in lines:
        invocation.line(line)


def counted(proposal: RootProposal) -> str:
    """Return `signed: old root 2 of 2, new root 1 of 2`."""
    parts = []
    if proposal.old is not None:
        parts.append(f"old root {_of(proposal.old)}")
    what = "root" if proposal.old is None else "new root"
    parts.append(f"{what} {_of(proposal.new)}")
    return f"signed: {', '.join(parts)}"


def _of(status: ThresholdStatus) -> str:
    # More than enough is enough: `3 of 2` would only puzzle.
    return f"{min(len(status.signers), status.needed)} of {status.needed}"


def standing(
    proposal: RootProposal,
    path: Path,
    *,
    lines: list[str],
    data: Mapping[str, Any] = _EMPTY,
    afterwards: str = "",
) -> Result:
    """Return a result that ends with who must act next; 5 while signatures lack.

    Args:
        proposal: as it is now.
        path: where it lies.
        lines: what is said first.
        data: what JSON has besides.
        afterwards: who goes on with it when it is complete, if not who runs this.
    """
    lacking = proposal.lacking()
    shown = [*lines, counted(proposal)]
    if lacking:
        shown.append(f"incomplete: {'; '.join(lacking)}")
        shown.append(
            f"next: send {path} to {next_holder(proposal)}: {PROGRAM} root sign {path} "
            "--key …"
        )
    else:
        shown.append(f"complete: {proposal.root.label} has every signature it needs")
        shown.append(f"next: {afterwards}{_after(proposal, path)}")
    return Result(
        data={**proposal_data(proposal, path), **data},
        lines=shown,
        exit_status=5 if lacking else 0,
    )


def _after(proposal: RootProposal, path: Path) -> str:
    if proposal.trusted is None:
        return f"{PROGRAM} repo init DIR --signed-root {path} …"
    # What `root draft` writes there; without it who finalizes would need more keys.
    beside = drafted(path)
    given = f" --with {beside}" if os.path.lexists(beside) else ""
    return f"{PROGRAM} root finalize {path}{given}{typed_place()}"


def next_holder(proposal: RootProposal) -> str:
    """Return who is best asked to sign next; of a key that leaves, which one it is."""
    from margo_supplychain.authoring import consent

    keyid = consent.next_key(proposal)
    return "whoever holds a key" if keyid is None else consent.called(proposal, keyid)


def sent_back(trust: Trust, path: Path) -> str:
    """Return `send FILE to …: ` for a holder, who has no repository to go on with."""
    return "" if trust.author.place else f"send {path} to whoever proposed it: "


def holder_name(proposal: RootProposal, keyid: str) -> str:
    """Return who holds a key, or its short id."""
    from margo_supplychain.authoring.holders import named

    return named(keyid, proposal.holders)


def signatures(proposal: RootProposal) -> list[str]:
    """Return for each root who has signed and who has not; who leaves comes last."""
    from margo_supplychain.authoring import consent

    gone = consent.leaving(proposal)
    rows = []
    for what, status in (("old root", proposal.old), ("new root", proposal.new)):
        if status is None:
            continue
        label = "root" if proposal.old is None else what
        signed = _names(proposal, status.keyids, gone)
        missing = sorted(status.missing, key=gone.__contains__)
        rows.append((label, _of(status), "signed", signed))
        rows.append(("", "", "not yet", _names(proposal, missing, gone)))
    return describe.table(rows)


def _names(proposal: RootProposal, keyids: Iterable[str], gone: Container[str]) -> str:
    known = proposal.holders
    found = []
    for keyid in keyids:
        said = [known[keyid].text] if keyid in known else []
        text = ", ".join([*said, *(["leaves"] if keyid in gone else [])])
        found.append(f"{keyid[:12]} ({text})" if text else keyid[:12])
    return ", ".join(found) or "nobody"


def proposal_data(proposal: RootProposal, path: Path) -> dict[str, Any]:
    """Return a proposal, what it changes and who has signed, for JSON."""
    return {
        "file": str(path),
        "version": proposal.version,
        "sha256": proposal.digest,
        "follows": None if proposal.trusted is None else proposal.trusted.version,
        "followsSha256": None if proposal.trusted is None else proposal.trusted.sha256,
        "complete": not proposal.lacking(),
        "oldRoot": None if proposal.old is None else _status(proposal, proposal.old),
        "newRoot": _status(proposal, proposal.new),
        "lacking": list(proposal.lacking()),
        "difference": proposal.difference().to_dict(),
    }


def _status(proposal: RootProposal, status: ThresholdStatus) -> dict[str, Any]:
    known = proposal.holders
    return {
        "needed": status.needed,
        "signed": len(status.signers),
        "met": status.met,
        "keys": [
            {
                "keyId": keyid,
                "signed": keyid in status.keyids,
                "holder": known[keyid].to_dict() if keyid in known else {},
            }
            for keyid in (*status.keyids, *status.missing)
        ],
    }
