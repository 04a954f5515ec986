"""`root sign` and `root merge`: signatures into a file that goes from hand to hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from margo_supplychain.cli import root_describe as show
from margo_supplychain.cli import root_draft, root_submission
from margo_supplychain.cli.confirming import confirm, yes_option
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_files import (
    Trust,
    is_submission,
    judge,
    read_root,
    save,
    trusts,
    typed_place,
    write_fresh,
)
from margo_supplychain.cli.signing_keys import ROOT, open_signers, read_public
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.cli.passphrases import Passphrases

_SIGNATURE: int = 64 * 1024  # bytes of a signature's file, in whatever form


class _Elsewhere(NamedTuple):
    """What is asked for a key that can't be reached from here."""

    payload: str | None
    signature: str | None
    keyid: str | None


@click.command(
    epilog=epilog(
        examples=[
            "root sign root-2.json --key 'pkcs11:token=root-a;object=root'",
            "root sign root-2.json --root 1.root.json --key a.key --yes",
            "root sign root-2.json --export-payload root-2.payload",
            "root sign root-2.json --import-signature a.sig --key a.pub",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="root finalize root-2.json",
    )
)
@click.argument("file", metavar="FILE")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Private key to sign with; may be repeated. With --import-signature: the "
    "public one that made it.",
)
@click.option("--out", metavar="FILE", help="Write here, and leave FILE as it is.")
@click.option(
    "--export-payload",
    "payload",
    metavar="FILE",
    help="Write the bytes to sign, for a key that can't be reached from here.",
)
@click.option(
    "--import-signature",
    "signature",
    metavar="FILE",
    help="Add a signature of those bytes: raw, hex or base64.",
)
@click.option("--key-id", "keyid", metavar="ID", help="Whose signature it is.")
@root_draft.proposal_option
@yes_option("Sign without asking: you have looked at the change.")
@trusts
@passphrase_options()
def sign(
    trust: Trust,
    *,
    file: str,
    keys: tuple[str, ...],
    out: str | None,
    payload: str | None,
    signature: str | None,
    keyid: str | None,
    proposal: str | None,
    yes: bool,
    pin: Passphrases,
) -> Result:
    """Show what a root proposal changes, and sign it.

    FILE may also be what a vendor submits, signed by several of its holders; or, with
    --proposal, the targets that goes with that root.
    """
    path, target = Path(file), Path(out or file)
    elsewhere = _Elsewhere(payload, signature, keyid)
    _check_use(elsewhere, keys, out)
    trust = replace(trust, author=replace(trust.author, pin=pin))
    if proposal is not None:
        if any(elsewhere):
            raise click.UsageError("a draft of targets is signed by --key alone")
        shown = (path, target, Path(proposal))
        return root_draft.sign(trust, shown, keys=keys, yes=yes)
    if is_submission(path):
        if any(elsewhere):
            raise click.UsageError("a submission is signed by --key alone")
        return root_submission.sign(trust, path, target, keys=keys, yes=yes)
    found = trust.read(path)
    if payload is not None:
        return _export(found, path, Path(payload))
    show.tell(trust.author.invocation, show.change(found), yes=yes)
    if signature is not None:
        signed = _imported(trust, found, Path(signature), elsewhere, keys)
        verb = "added: a signature of"
    else:
        confirm("sign this?", yes=yes)
        signed = _signed(trust, found, keys)
        verb = "signed by"
    new = sorted(signed.signed_by - found.signed_by)
    signed = save(target, signed)
    names = ", ".join(show.holder_name(signed, one) for one in new)
    lines = [f"{verb} {names}" if names else "unchanged: signed before"]
    data = {"addedKeyIds": new}
    return show.standing(
        signed, target, lines=lines, data=data, afterwards=show.sent_back(trust, target)
    )


def _check_use(elsewhere: _Elsewhere, keys: tuple[str, ...], out: str | None) -> None:
    if elsewhere.payload is not None and (
        keys or out or elsewhere.signature or elsewhere.keyid
    ):
        raise click.UsageError(
            "--export-payload signs nothing: it goes without --key, --key-id, --out "
            "and --import-signature"
        )
    if elsewhere.signature is None:
        if elsewhere.keyid is not None:
            raise click.UsageError("--key-id says whose --import-signature is")
        return
    if (elsewhere.keyid is None) == (len(keys) != 1):
        raise click.UsageError(
            "--import-signature needs --key-id or one --key, the public key that made "
            "it"
        )


def _export(proposal: RootProposal, path: Path, target: Path) -> Result:
    write_fresh(target, proposal.payload)
    again = f"{PROGRAM} root sign {path}{typed_place()}"
    return Result(
        data={
            **show.proposal_data(proposal, path),
            "payload": {"file": str(target), "size": len(proposal.payload)},
        },
        lines=[
            *show.change(proposal),
            f"wrote {target}: {len(proposal.payload)} bytes to sign as they are",
            f"next: {again} --import-signature FILE --key-id ID",
        ],
    )


def _imported(
    trust: Trust,
    proposal: RootProposal,
    file: Path,
    elsewhere: _Elsewhere,
    keys: tuple[str, ...],
) -> RootProposal:
    data = read_named(file, limit=_SIGNATURE, what="a signature")
    if elsewhere.keyid is not None:
        return proposal.with_signature(_whole(proposal, elsewhere.keyid), data)
    with trust.author.keyring() as keyring:
        key = read_public(keyring, keys[0]).key
    return proposal.with_signature(proposal.ids_of(key)[0], data)


def _whole(proposal: RootProposal, keyid: str) -> str:
    from margo_supplychain.authoring.plan_changes import MIN_ID

    found = [one for one in proposal.keys if one.startswith(keyid)]
    if len(keyid) >= MIN_ID and len(found) == 1:
        return found[0]
    if len(keyid) < MIN_ID:
        problem = f"{keyid!r} is too short for a key id, expected at least {MIN_ID}"
        problem += " hex digits of one"
    elif not found:
        problem = f"no root key's id begins with {keyid!r:.80}"
    else:
        problem = f"the ids of {len(found)} root keys begin with {keyid!r:.80}"
    raise RefusedError(
        problem,
        hint=f"root keys here: {', '.join(one[:12] for one in proposal.keys)}; "
        "nothing was changed",
    )


def _signed(
    trust: Trust, proposal: RootProposal, keys: tuple[str, ...]
) -> RootProposal:
    author = trust.author
    with author.keyring() as keyring:
        for signer in open_signers(
            keyring, author.invocation, given=keys, settings=ROOT
        ):
            proposal = proposal.sign(signer)
    return proposal


@click.command(
    epilog=epilog(
        examples=[
            "root merge from-a.json from-b.json --out root-2.json",
            "root merge a.json b.json c.json --root 1.root.json --out root-2.json",
        ],
        exits=[0, 2, 3, 4, 5],
        follow="root finalize root-2.json",
    )
)
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@click.option("--out", required=True, metavar="FILE", help="Where to write it.")
@root_draft.proposal_option
@trusts
def merge(
    trust: Trust, *, files: tuple[str, ...], out: str, proposal: str | None
) -> Result:
    """Bring together what several holders signed apart: copies of one proposal."""
    paths = [Path(one) for one in files]
    if proposal is not None:
        return root_draft.merge(trust, paths, Path(out), proposal=Path(proposal))
    if all(is_submission(one) for one in paths):
        return root_submission.merge(trust, paths, Path(out))
    chain = trust.chain()
    merged: Any = None
    for path in paths:
        found = judge(path, read_root(path), chain)
        merged = found if merged is None else merged.merge(found)
    target = Path(out)
    merged = save(target, merged)
    many = "file" if len(paths) == 1 else "files"
    lines = [f"merged {len(paths)} {many} into {target}"]
    # A first root is brought together where the repository is made.
    sent = "" if chain is None else show.sent_back(trust, target)
    data = {"merged": list(files)}
    return show.standing(merged, target, lines=lines, data=data, afterwards=sent)
