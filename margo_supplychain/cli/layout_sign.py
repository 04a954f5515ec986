"""`layout sign`: a layout goes from hand to hand until enough of the publisher signed.

Devices go by what the publisher's role lists; these signatures are for other in-toto
tools, and for whoever lists the layout to see that enough holders have read it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import layout_describe as shown
from margo_supplychain.cli.author import Author, reads
from margo_supplychain.cli.confirming import confirm, yes_option
from margo_supplychain.cli.describe import now
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.options import epilog, passphrase_options, setting_option
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_describe import tell
from margo_supplychain.cli.root_files import another, typed_place, write_fresh
from margo_supplychain.cli.signing_keys import PUBLISHER, open_signers
from margo_supplychain.errors import FetchError, FormatError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.cli.passphrases import Passphrases

_SCREEN: Final = 100  # lines that somebody may still see


@click.command(
    epilog=epilog(
        examples=[
            "layout sign layout.json --key offline.key",
            "layout sign layout.json --key 'pkcs11:token=offline-a;object=acme'",
            "layout sign layout.json --repo oci://registry.example/acme/trust --yes",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="app policy acme/pump-monitor --layout layout.json --serves '^1.0'",
    )
)
@click.argument("file", metavar="FILE")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Private key to sign with, in place of the publisher's of this place; may be "
    "repeated.",
)
@setting_option(
    "publisher",
    help="Whose layout it is: with --repo, says how many of its keys have signed.",
    required=False,
)
@click.option("--out", metavar="FILE", help="Write here, and leave FILE as it is.")
@yes_option("Sign without asking: you have read the layout.")
@reads
@passphrase_options()
def sign(
    author: Author,
    *,
    file: str,
    keys: tuple[str, ...],
    publisher: str | None,
    out: str | None,
    yes: bool,
    pin: Passphrases,
) -> Result:
    """Show a layout, and sign it with a key of its publisher."""
    author = replace(author, pin=pin)
    path, target = Path(file), Path(out or file)
    found = read_layout_file(path)
    if found.layout.expires <= now():
        raise RefusedError(
            f"{path} has expired: devices refuse what is made by it",
            hint="build it anew with a later expiry: nothing was signed",
        )
    warnings = _warnings(found)
    who = signers_of(author, publisher)
    words = shown.words(found)
    tell(author.invocation, words, yes=yes)
    if len(words) > _SCREEN:
        author.invocation.note(
            f"these were {len(words)} lines, and each rule among them decides: "
            f"{PROGRAM} layout show {path} | less"
        )
    for one in warnings:
        author.invocation.note(one)
    confirm("sign this?", yes=yes)
    with author.keyring() as keyring:
        signers = open_signers(
            keyring, author.invocation, given=keys, settings=PUBLISHER
        )
        strange = _strangers(signers, who)
        for one in strange:
            author.invocation.note(one)
        signed = found.signed(signers)
    signed = _save(target, signed)
    before = {} if found.envelope is None else found.signers(_keys(signers))
    new = [
        one.public_key.keyid for one in signers if one.public_key.keyid not in before
    ]
    return _standing(signed, target, who, new=new, warnings=[*warnings, *strange])


def read_layout_file(path: Path) -> LayoutFile:
    """Read a layout, signed or not, that somebody named.

    Raises:
        FormatError: there is none, or it is no layout that devices take.
    """
    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.provenance.layouts import MAX_LAYOUT

    data = read_named(path, limit=MAX_LAYOUT, what="a layout")
    return LayoutFile.parse(data, what=str(path))


def signers_of(author: Author, publisher: str | None) -> RoleSigners | None:
    """Return who signs for a publisher, if there is a repository that says so.

    Raises:
        RefusedError: there is no such publisher in it.
    """
    if not author.place or publisher is None:
        return None
    from margo_supplychain.formats.names import publisher_name

    name = publisher_name(publisher)
    try:
        with author.look() as known:
            if known.is_simple:
                return None
            found = known.signers(name)
    except FetchError as why:
        source = click.get_current_context().get_parameter_source("repo")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise
        # A holder of an offline key may sit where no network is.
        author.invocation.note(f"who signs for {name} is not known here: {why}")
        return None
    if found is None:
        raise RefusedError(
            f"there is no publisher {publisher} in {author.place}",
            hint="name it with --publisher; nothing was written",
        )
    return found


def standing_lines(file: LayoutFile, who: RoleSigners) -> tuple[list[str], list[str]]:
    """Return in words who of a publisher has signed, and the ids of who has not."""
    signed = file.signers(who.keys)
    lacking = [keyid for keyid in who.keys if keyid not in signed]
    needed = who.threshold - len(signed)
    lines = [
        f"signed: {min(len(signed), who.threshold)} of {who.threshold} of {who.role}"
    ]
    if needed > 0:
        names = ", ".join(keyid[:12] for keyid in lacking)
        lines.append(f"incomplete: {who.role} needs {needed} more of {names}")
        return lines, lacking
    return lines, []


def standing_data(file: LayoutFile, who: RoleSigners | None) -> dict[str, Any] | None:
    """Return who of a publisher has signed, for JSON; None if nobody knows."""
    if who is None:
        return None
    signed = file.signers(who.keys)
    return {
        "publisher": who.role,
        "threshold": who.threshold,
        "complete": len(signed) >= who.threshold,
        "signed": list(signed),
        "missing": [keyid for keyid in who.keys if keyid not in signed],
    }


def _warnings(found: LayoutFile) -> list[str]:
    from margo_supplychain.authoring.layouts import check

    return check(found.layout)


def _strangers(signers: Sequence[Signer], who: RoleSigners | None) -> list[str]:
    """Return what is to be said of keys whose signature nobody counts."""
    if who is None:
        return []
    from margo_supplychain.threshold import material

    known = who.materials()
    return [
        f"key {one.public_key.keyid[:12]} is none of {who.role}'s: its signature "
        "counts for nobody"
        for one in signers
        if material(one.public_key) not in known
    ]


def _keys(signers: Sequence[Signer]) -> dict[str, Any]:
    return {one.public_key.keyid: one.public_key for one in signers}


def _standing(
    signed: LayoutFile,
    target: Path,
    who: RoleSigners | None,
    *,
    new: Sequence[str],
    warnings: Sequence[str],
) -> Result:
    names = ", ".join(keyid[:12] for keyid in new)
    lines = [f"signed by {names}" if names else "unchanged: signed before"]
    lacking: list[str] = []
    if who is not None:
        said, lacking = standing_lines(signed, who)
        lines += said
    if lacking:
        lines.append(
            f"next: send {target} to whoever holds {lacking[0][:12]}: {PROGRAM} layout "
            f"sign {target} --key …"
        )
    else:
        name = "PUBLISHER/NAME" if who is None else f"{who.role}/NAME"
        lines.append(
            f"next: {PROGRAM} app policy {name} --layout {target} --serves "
            f"RANGE{typed_place()}"
        )
    return Result(
        data={
            "file": str(target),
            "addedKeyIds": list(new),
            "layout": shown.layout_data(signed),
            "standing": standing_data(signed, who),
            "warnings": list(warnings),
        },
        lines=lines,
        exit_status=5 if lacking else 0,
    )


def _save(target: Path, signed: LayoutFile) -> LayoutFile:
    """Write it; signatures that the file has got meanwhile are kept.

    On a shared disk two people may sign at once, and `--out` may name a copy.

    Raises:
        RefusedError: the file is something else, or another layout.
    """
    from margo_supplychain.storage.durable import write_file

    if not os.path.lexists(target):
        write_fresh(target, signed.to_bytes())
        return signed
    try:
        signed = signed.merged(read_layout_file(target))
    except FormatError as why:
        raise another(target) from why
    write_file(target, signed.to_bytes())
    return signed
