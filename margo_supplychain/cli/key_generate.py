"""`margo-supplychain key generate`: a key in a file, or inside a token."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.confirming import confirm, yes_option
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.key_records import public_file, record_data, write_record
from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.errors import KeyFormatError, SignerError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.public_files import KeyRecord

# Not imported from `signing`: `--help` must not load cryptography. A test compares.
_SCHEMES: Final = (
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ed25519",
    "rsassa-pss-sha256",
)
_DEFAULT_SCHEME: Final = _SCHEMES[0]


@click.command(
    epilog=epilog(
        examples=[
            "key generate offline.key",
            "key generate ci.key --scheme ed25519 --passphrase-file ci.passphrase",
            "key generate --uri 'pkcs11:token=root-a;object=root' --out root-a.pub",
        ],
        exits=[0, 2, 4, 6],
        follow="repo init trust --publisher acme --offline-key offline.key …",
    )
)
@click.argument("path", required=False)
@click.option(
    "--uri",
    metavar="URI",
    help="In place of PATH: make it inside a token, pkcs11:token=LABEL;object=NAME.",
)
@click.option(
    "--out",
    metavar="FILE.pub",
    help="With --uri: write the public key and its URI there, to be given as KEY.",
)
@click.option(
    "--scheme",
    type=click.Choice(_SCHEMES),
    default=_DEFAULT_SCHEME,
    show_default=True,
    help="What it signs with.",
)
@click.option(
    "--bits",
    type=click.Choice(["3072", "4096"]),
    help="Of an RSA key; 3072 if not given.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Overwrite: the old key is lost. Inside a token only after asking.",
)
@yes_option("With --force: replace a key inside a token without asking.")
@passphrase_options(new=True)
@pass_invocation
def generate(
    invocation: Invocation,
    *,
    path: str | None,
    uri: str | None,
    out: str | None,
    scheme: str,
    bits: str | None,
    force: bool,
    yes: bool,
    pin: Passphrases,
) -> Result:
    """Make a key: PATH (encrypted, only yours) and its public half beside it.

    With --uri the key is made inside a token and never leaves it.
    """
    from margo_supplychain.signing.keyring import generate_key, is_file
    from margo_supplychain.signing.redacting import redacted

    if (path is None) == (uri is None):
        raise click.UsageError("give either PATH or --uri")
    named = uri or path or ""
    if is_file(named) != (uri is None):
        raise click.UsageError(
            f"{redacted(named)} is a key in a file: give it as PATH"
            if path is None
            else f"{redacted(named)} is not a file: give it by --uri"
        )
    size = None if bits is None else int(bits)
    record_to = None if out is None else public_file(out)
    if path is not None:
        if out is not None:
            raise click.UsageError("--out goes with --uri; PATH has its .pub beside it")
        made = generate_key(path, scheme=scheme, bits=size, pin=pin, replace=force)
        return _made_file(path, made)
    made = generate_key(
        named,
        scheme=scheme,
        bits=size,
        pin=pin,
        replace=force,
        ask=_asking(invocation, record_to, force=force, yes=yes),
        pkcs11_module=invocation.settings.pkcs11_module,
    )
    if record_to is not None:
        try:
            write_record(record_to, made, force=force)
        except (KeyFormatError, StorageError) as why:
            why.hint = f"the key was made: {_record_it(made)}"
            raise
    return _made_inside(made, record_to)


def _asking(
    invocation: Invocation, out: Path | None, *, force: bool, yes: bool
) -> Callable[[str | None], None]:
    """Return what judges the key that a new one would replace, before it is made."""

    def ask(old: str | None) -> None:
        overwrites = out is not None and out.exists()
        if old is None:
            if overwrites and not force:
                raise KeyFormatError(f"{out} exists", hint="--force overwrites it")
            return
        lost = f"{old} is lost, and nothing brings it back"
        if overwrites:
            lost += f"; {out} is overwritten"
        if not force:
            also = f", and {out} exists" if overwrites else ""
            raise SignerError(
                f"the token has {old} already{also}",
                hint=f"choose another object=. With --force {lost}",
            )
        invocation.note(lost)
        confirm("make a new key in its place?", yes=yes)

    return ask


def _made_file(named: str, made: KeyRecord) -> Result:
    from margo_supplychain.signing.files import public_path
    from margo_supplychain.signing.keyring import path_of
    from margo_supplychain.signing.keys import describe

    private = path_of(named)
    public = public_path(private)
    written = f"wrote {private} ({describe(made.key)}, encrypted, 0600) and {public}"
    advice = (
        f"keep {private} secret, on the machine that signs with it alone; give away "
        f"{public}: docs/how-to/keys.md"
    )
    return Result(
        data=record_data(made, private=private, public=public),
        lines=[written, _key_id(made), advice],
    )


def _made_inside(made: KeyRecord, out: Path | None) -> Result:
    from margo_supplychain.signing.keys import describe

    custody = "" if made.custody is None else f", {made.custody.text}"
    said = f"{describe(made.key)}{custody}"
    if out is None:
        follow = f"next: {_record_it(made)}"
    else:
        follow = f"wrote {out}: give it as KEY, and to whoever needs the public key"
    return Result(
        data=record_data(made, private=None, public=out),
        lines=[f"made {made.uri} ({said})", _key_id(made), follow],
    )


def _key_id(made: KeyRecord) -> str:
    """Return the id, whole: holders read it aloud, and 12 digits have twins."""
    return f"  key id  {made.key.keyid}"


def _record_it(made: KeyRecord) -> str:
    return f"margo-supplychain key import {shlex.quote(made.uri or '')} --out FILE.pub"
