"""`margo-supplychain key tokens`: what a PKCS#11 module shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, missing_setting, passphrase_options
from margo_supplychain.cli.output import Result

if TYPE_CHECKING:
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.pkcs11 import TokenInfo, TokenKey


@click.command(
    epilog=epilog(
        examples=[
            "key tokens",
            "key tokens 'pkcs11:token=root-a' --login",
            "key tokens 'pkcs11:model=SoftHSM%20v2?module-path=/usr/lib/…/module.so'",
        ],
        exits=[0, 2, 6],
        follow="key generate --uri 'pkcs11:token=LABEL;object=NAME' --out NAME.pub",
    )
)
@click.argument("uri", required=False, metavar="[URI]")
@click.option(
    "--login",
    is_flag=True,
    help="Log in to each, to see private keys and their custody; so does --pin-file.",
)
@passphrase_options()
@pass_invocation
def tokens(
    invocation: Invocation, *, uri: str | None, login: bool, pin: Passphrases
) -> Result:
    """List the tokens of a PKCS#11 module and the keys in them.

    URI selects some of them, and may name another module than the setting
    pkcs11-module.
    """
    from margo_supplychain.signing.pkcs11 import Tokens

    module = invocation.settings.pkcs11_module
    if module is None and uri is None:
        raise click.UsageError(missing_setting("pkcs11-module", "URI"))
    all_tokens = Tokens(pin=pin, module=module)
    try:
        found = all_tokens.tokens(uri)
        if pin.one_pin_for_all and len(found) > 1:
            raise click.UsageError(
                f"{len(found)} tokens are there, and a PIN is of one of them: name it "
                "by --pin-file TOKEN=FILE, or by URI"
            )
        if login or pin.pins_given:
            found = all_tokens.tokens(uri, login=True)
    finally:
        all_tokens.close()
    lines = [line for each in found for line in _lines(each)]
    return Result(
        data={"tokens": [_data(each) for each in found]},
        lines=lines or ["no token is there"],
    )


def _lines(token: TokenInfo) -> list[str]:
    from margo_supplychain.signing.keys import describe as kind_of
    from margo_supplychain.signing.keys import short_id

    made_by = " ".join(each for each in (token.manufacturer, token.model) if each)
    lines = [token.uri, f"  {made_by}, shown by {token.module}"]
    if token.state:
        lines.append(f"  {token.state}")
    rows = [
        (
            each.uri,
            "-" if each.key is None else short_id(each.key),
            (each.problem or "?") if each.key is None else kind_of(each.key),
            _custody(each),
        )
        for each in token.keys
    ]
    lines += describe.table(rows)
    if not token.logged_in:
        lines.append("  private keys show after a login: --login")
    elif not rows:
        lines.append("  no keys")
    return lines


def _custody(key: TokenKey) -> str:
    return "public half" if key.custody is None else key.custody.text


def _data(token: TokenInfo) -> dict[str, Any]:
    return {
        "module": str(token.module),
        "label": token.label,
        "serial": token.serial,
        "manufacturer": token.manufacturer,
        "model": token.model,
        "uri": token.uri,
        "state": token.state or None,
        "loggedIn": token.logged_in,
        "keys": [
            {
                "uri": each.uri,
                "keyId": None if each.key is None else each.key.keyid,
                "scheme": None if each.key is None else each.key.scheme,
                "custody": None if each.custody is None else each.custody.text,
                "problem": each.problem,
            }
            for each in token.keys
        ],
    }
