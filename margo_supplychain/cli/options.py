"""What commands share: help pages, options that have defaults, passphrases and PINs.

Every long option has the same name everywhere (`--repo`, `--key`, `--state`,
`--source`, `--policy`); a default comes from the environment or the place, and `-v`
says which applied.

Example:
    >>> @click.command(epilog=epilog(examples=[...], exits=[0, 6], follow="..."))
    ... @setting_option("repo", help="the repository's directory")
    ... @passphrase_options()
    ... @pass_invocation
    ... def refresh(invocation: Invocation, repo: str, pin: PinHandler) -> Result: ...
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.passphrases import Passphrases
from margo_supplychain.cli.settings import FILE_NAME, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from margo_supplychain.cli.output import Result

EXIT_STATUSES: Final = {
    0: "done",
    1: "internal error, or interrupted",
    2: "wrong usage, or a local file is not what it claims",
    3: "rejected: do not install, raise an alarm",
    4: "inconclusive (network, disk, clock): try again later",
    5: "incomplete: somebody must sign, or a duty is due",
    6: "key, token or passphrase",
}


def epilog(
    *, examples: Sequence[str], exits: Iterable[int], follow: str, also: str = ""
) -> str:
    """Return the end of a help page: examples, exit statuses, the next command.

    Args:
        examples: at least two, without the program's name.
        exits: the exit statuses that the command may have.
        follow: the next command.
        also: what else exit status 1 means here.
    """
    means = EXIT_STATUSES | ({1: f"{EXIT_STATUSES[1]}; {also}"} if also else {})
    blocks = [
        ("Examples:", [f"  margo-supplychain {each}" for each in examples]),
        ("Exit status:", [f"  {each}  {means[each]}" for each in exits]),
        ("Next:", [f"  margo-supplychain {follow}"]),
    ]
    # \b keeps click from wrapping the block.
    return "\n\n".join("\n".join(["\b", title, *lines]) for title, lines in blocks)


def setting_option(
    name: str,
    *,
    help: str,  # noqa: A002  (click's own name for it)
    flag: str | None = None,
    required: bool = True,
    multiple: bool = False,
    device: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option whose default is a setting of this place.

    The command gets a `str` or None, with `multiple` a `tuple[str, ...]`.

    Args:
        name: the setting, such as `release-key`.
        help: what it is for.
        flag: the long option, such as `--key`; else `--` and the setting's name.
        required: whether a missing value is an error of usage.
        multiple: whether the option may be repeated.
        device: a device's own setting, never from a `margo-supplychain.toml`.
    """
    option = flag or f"--{name}"

    def resolve(context: click.Context, _: click.Parameter, value: Any) -> Any:
        invocation = context.find_object(Invocation)
        if value or context.resilient_parsing or invocation is None:
            return value
        setting = invocation.settings.find(name, device=device)
        if setting is None:
            if required:
                raise click.UsageError(missing_setting(name, option), ctx=context)
            return value
        if invocation.verbosity > 0:
            from margo_supplychain.signing.redacting import redacted

            shown = ", ".join(redacted(each) for each in setting.values)
            invocation.detail(f"{name} is {shown} ({setting.origin})")
        if multiple:
            return setting.values
        if len(setting.values) > 1:
            raise click.UsageError(
                f"{setting.origin} gives {len(setting.values)} values for {name}, "
                "expected one",
                ctx=context,
            )
        return setting.values[0]

    return click.option(
        option, multiple=multiple, callback=resolve, help=help, metavar=_metavar(name)
    )


def missing_setting(name: str, option: str | None = None) -> str:
    """Return what to say when a setting is needed and nothing gives it."""
    return (
        f"{option or f'--{name}'} is missing, and neither {variable_of(name)} nor a "
        f"{FILE_NAME} here or above gives it"
    )


def passphrase_options(
    *, new: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return the passphrase and PIN options; the command gets `pin`, a `PinHandler`.

    Args:
        new: a key is being made: a person types the passphrase twice.
    """

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @click.option(
            "--passphrase-file",
            "passphrase_files",
            multiple=True,
            metavar="[KEY=]FILE",
            help="First line of FILE (mode 0600; - is stdin) opens KEY, or every key.",
        )
        @click.option(
            "--passphrase-fd",
            type=click.IntRange(min=0),
            metavar="N",
            help="Read the passphrase from an open file descriptor.",
        )
        @click.option(
            "--pin-file",
            "pin_files",
            multiple=True,
            metavar="[TOKEN=]FILE",
            help="First line of FILE (mode 0600; - is stdin) is the PIN of TOKEN (* is "
            "every other one), or of every token.",
        )
        @functools.wraps(command)
        def with_pin(
            *arguments: Any,
            passphrase_files: tuple[str, ...],
            passphrase_fd: int | None,
            pin_files: tuple[str, ...],
            **options: Any,
        ) -> Result:
            pin = Passphrases.from_options(
                passphrase_files, passphrase_fd, pins=pin_files, new=new
            )
            return command(*arguments, pin=pin, **options)

        return with_pin

    return decorate


def _metavar(name: str) -> str:
    if name.endswith("-key"):
        return "KEY"
    return {
        "repo": "PLACE",
        "state": "DIR",
        "root": "FILE",
        "inbox": "INBOX",
        "source": "URL",
        "policy": "FILE",
    }.get(name, name.upper())
