"""Who works on which repository, with what: the options of all authoring commands.

`@signs` gives a command its `Author` with `--repo`, `--state`, `--key`,
`--time-checked` and the passphrase options; `@reads` one that opens no key.

Example:
    >>> @repo.command()
    ... @signs
    ... def refresh(author: Author) -> Result:
    ...     with author.edit(ONLINE) as edit:
    ...         edit.refresh()
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.options import passphrase_options, setting_option
from margo_supplychain.cli.signing_keys import open_signers
from margo_supplychain.errors import (
    IncompleteError,
    StateLostError,
    ThresholdError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.cli.output import Result
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.keyring import Keyring
    from margo_supplychain.verify.trust_store import TrustStore


_MANY: Final = 20  # notes; more are no help on a screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """One run of an authoring command.

    Args:
        invocation: notes, settings.
        directory: the repository.
        state: the author's memory of it, or None.
        keys: the values of `--key`.
        pin: answers for passphrases.
        time_checked: somebody looked at a clock.
    """

    invocation: Invocation
    directory: Path
    state: Path | None
    keys: tuple[str, ...] = ()
    pin: Passphrases | None = None
    time_checked: bool = False

    def open(self) -> Repository:
        """Open the repository."""
        from margo_supplychain.authoring.repository import Repository

        return Repository.open(self.directory)

    def memory(self) -> TrustStore | None:
        """Open the author's memory, if the place has one.

        Raises:
            StateLostError: it should have one, and it is not there or damaged.
        """
        if self.state is None:
            return None
        from margo_supplychain.verify.trust_store import TrustStore

        try:
            return TrustStore.open(self.state)
        except StateLostError as why:
            why.hint = (
                "bring it back from a backup; or remove what is left of it and begin "
                "anew: margo-supplychain repo check --begin-from FILE, with a "
                "1.root.json that you got from somebody you trust"
            )
            raise

    def keyring(self) -> AbstractContextManager[Keyring]:
        """Return what opens keys, each once."""
        from margo_supplychain.signing.keyring import open_keyring

        if self.pin is None:
            raise TypeError("this command opens no key")
        return open_keyring(pin=self.pin)

    def signers(self, keyring: Keyring, *settings: str) -> list[Signer]:
        """Open the keys of `--key`, else those of the given settings."""
        return open_signers(
            keyring, self.invocation, given=self.keys, settings=settings
        )

    @contextmanager
    def edit(self, *settings: str) -> Iterator[Edit]:
        """Change the repository with those keys; say its warnings afterwards."""
        with self.keyring() as keyring, self.edit_with(keyring, *settings) as edit:
            yield edit

    @contextmanager
    def edit_with(
        self, keyring: Keyring, *settings: str, also: Sequence[Signer] = ()
    ) -> Iterator[Edit]:
        """Change the repository with those keys and with more, opened before."""
        # A repository or a memory that is not there is found before anybody types.
        repository, memory = self.open(), self.memory()
        with (
            self.explained(),
            repository.edit(
                [*self.signers(keyring, *settings), *also],
                time_checked=self.time_checked,
                state=memory,
            ) as edit,
        ):
            yield edit
        warn(self.invocation, edit.warnings)

    @contextmanager
    def look(self) -> Iterator[Edit]:
        """Look at the repository as an edit sees it, without any key."""
        with (
            self.explained(),
            self.open().edit((), time_checked=True, state=self.memory()) as edit,
        ):
            yield edit

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what an author can do where the hints are those for a device."""
        try:
            yield
        except ThresholdError as why:
            if self.state is not None:
                why.hint = (
                    f"the memory {self.state} (--state) belongs to another repository, "
                    "or the keys of this one were changed by somebody else"
                )
            raise
        except IncompleteError as why:
            why.hint = (
                "give every key that signs: `--key FILE` for each, the online key too, "
                'or release-key = ["a.key", "b.key"] in margo-supplychain.toml; '
                "nothing was changed"
            )
            raise


def reads(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command `--repo` and `--state`, and an `Author` without keys."""

    @setting_option("repo", help="The repository's directory.")
    @setting_option("state", help="Your memory of it.", required=False)
    @functools.wraps(command)
    def with_author(
        *arguments: Any,
        repo: str,
        state: str | None,
        **options: Any,
    ) -> Result:
        author = Author(
            invocation=_invocation(), directory=Path(repo), state=_path(state)
        )
        return command(author, *arguments, **options)

    return with_author


def signs(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command what `reads` gives it, and keys to sign with."""

    @setting_option("repo", help="The repository's directory.")
    @setting_option("state", help="Your memory of it.", required=False)
    @click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="KEY",
        help="Private key to sign with, in place of those of this place; may be "
        "repeated.",
    )
    @click.option(
        "--time-checked",
        is_flag=True,
        help="Sign although the clock is far from the last signature.",
    )
    @passphrase_options()
    @functools.wraps(command)
    def with_author(
        *arguments: Any,
        repo: str,
        state: str | None,
        keys: tuple[str, ...],
        time_checked: bool,
        pin: Passphrases,
        **options: Any,
    ) -> Result:
        author = Author(
            invocation=_invocation(),
            directory=Path(repo),
            state=_path(state),
            keys=keys,
            pin=pin,
            time_checked=time_checked,
        )
        return command(author, *arguments, **options)

    return with_author


def _invocation() -> Invocation:
    found = click.get_current_context().find_object(Invocation)
    if found is None:
        raise TypeError("this command runs below `main` alone")
    return found


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def warn(invocation: Invocation, warnings: Sequence[str]) -> None:
    """Say warnings on stderr; JSON has all of them."""
    for warning in warnings[:_MANY]:
        invocation.note(warning)
    if len(warnings) > _MANY:
        invocation.note(f"and {len(warnings) - _MANY} more: --format json lists them")


def edit_data(edit: Edit) -> dict[str, Any]:
    """Return what an edit signed and what its author should know, for JSON."""
    roles = {} if edit.written is None else edit.written.roles
    return {
        "signed": {
            role: {"version": version, "expires": expires}
            for role, (version, expires) in roles.items()
        },
        "warnings": list(edit.warnings),
    }


def signed_line(edit: Edit) -> str:
    """Return what an edit signed, for people: `acme v4, snapshot v8, timestamp v9`."""
    roles = {} if edit.written is None else edit.written.roles
    if not roles:
        return "nothing, it is so already"
    return ", ".join(f"{role} v{version}" for role, (version, _) in roles.items())
