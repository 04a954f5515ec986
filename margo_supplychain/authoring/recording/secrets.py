"""Secrets of the environment, which must not end up in what everybody reads.

A link is published. Its command and, if asked for, its streams could hold the value of
a variable that is meant to be secret, as CI systems hand them to jobs. Which variables
are, is told by their names; and an address with a password in it is told by its form.

Example:
    >>> found = secret_values({"CI_TOKEN": "s3cr3t-value", "LANG": "C"})
    >>> without_secrets("login s3cr3t-value", found)
    'login [CI_TOKEN]'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMES: Final = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|PWD$|PRIVATE|CREDENTIAL|AUTH|API_?KEY|ACCESS_?KEY"
    r"|SIGNING_?KEY|(^|_)(PIN|PAT|PASS|PW|KEY|DSN)($|_)",
    re.ASCII | re.IGNORECASE,
)
# https://user:password@host; what a shell will put there is no secret yet. Bounded, and
# begun by fixed characters: a stream must not be searched for ever.
_IN_ADDRESS: Final = re.compile(r"(://[^\s/:@]{0,200}:)(?!\$)[^\s/@]{1,500}(?=@)")
_SHORTEST: Final = 8  # characters: what is shorter stands in any text
_PATHS: Final = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY"})


def is_secret(name: str) -> bool:
    """Say whether a variable of this name is meant to be kept secret."""
    return name not in _PATHS and _NAMES.search(name) is not None


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the names of secret variables by their values, the longest first."""
    found = {
        value: name
        for name, value in sorted(environment.items())
        if is_secret(name) and len(value) >= _SHORTEST
    }
    return {value: found[value] for value in sorted(found, key=len, reverse=True)}


def check_command(command: Sequence[str], secrets: Mapping[str, str]) -> None:
    """Refuse a command line that would publish a secret.

    Args:
        command: what the link would say.
        secrets: names by values, as `secret_values` gives them.

    Raises:
        FormatError: an argument holds the value of such a variable, or an address
            with a password.
    """
    for number, argument in enumerate(command):
        if _IN_ADDRESS.search(argument):
            raise FormatError(
                f"argument {number} of the command holds an address with a password, "
                "and everybody can read a link",
                hint="let the command read it from its environment or from a file; or "
                "leave the command out of the link by --no-command",
            )
        for value, name in secrets.items():
            if value in argument:
                raise FormatError(
                    f"argument {number} of the command holds the value of {name}, and "
                    "everybody can read a link",
                    hint="let the command read it from its environment, such as "
                    f"sh -c '… ${name}'; or leave the command out of the link by "
                    "--no-command",
                )


def without_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with the values of secrets replaced by their names."""
    for value, name in secrets.items():
        text = text.replace(value, f"[{name}]")
    return _IN_ADDRESS.sub(r"\1[password]", text)


def variables(names: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the variables that somebody asked for, as `NAME=value`.

    Raises:
        FormatError: one that is not set, or is no text.
    """
    found = []
    for name in dict.fromkeys(names):
        value = environment.get(name)
        if value is None:
            raise FormatError(
                f"the variable {name!r:.80} is not set, and was to be recorded",
                hint="set it, or leave out --record-environment for it",
            )
        found.append(f"{name}={value}")
    _check_text(found, "the value of a variable that is to be recorded")
    return found


def _check_text(values: Sequence[str], what: str) -> None:
    try:
        "".join(values).encode()
    except UnicodeEncodeError as why:
        raise FormatError(f"{what} is not UTF-8") from why
