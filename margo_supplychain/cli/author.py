"""Who works on which repository, with what: the options of all authoring commands.

`@signs` gives a command its `Author` with `--repo`, `--state`, `--root`, `--key`,
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
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from margo_supplychain.cli.failures import hinted
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.handing import handed_in, handed_in_text, submission_data
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.options import (
    missing_setting,
    passphrase_options,
    setting_option,
)
from margo_supplychain.cli.signing_keys import ONLINE, keyring_of, open_signers
from margo_supplychain.errors import (
    IncompleteError,
    RollbackError,
    StateLostError,
    ThresholdError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.cli.handing import Submitting
    from margo_supplychain.cli.output import Result
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.keyring import Keyring
    from margo_supplychain.transport.network import Network
    from margo_supplychain.verify.trust_store import TrustStore


RETRY: Final = "check the address and the network, then run it again"
UNPUBLISHED: Final = f"nothing was published: {RETRY}"
_MANY: Final = 20  # notes; more are no help on a screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """One run of an authoring command.

    Args:
        invocation: notes, settings.
        place: the repository: a directory or a URL.
        state: the author's memory of it, or None.
        root: a file with the root to believe, in place of a directory's own.
        keys: the values of `--key`.
        pin: answers for passphrases.
        time_checked: somebody looked at a clock.
        submission: where to hand in what is signed, in place of publishing it.
    """

    invocation: Invocation
    place: str
    state: Path | None
    root: Path | None = None
    keys: tuple[str, ...] = ()
    pin: Passphrases | None = None
    time_checked: bool = False
    submission: Submitting | None = None

    def open(self) -> Repository:
        """Open the repository.

        Raises:
            click.UsageError: none is named.
            FormatError: there is none, or the file of `--root` can't be read.
        """
        from margo_supplychain.authoring.repository import Repository

        if not self.place:
            raise click.UsageError(missing_setting("repo"))
        from margo_supplychain.verify.limits import Limits

        root = None
        if self.root is not None:
            root = read_named(self.root, limit=Limits().root, what="a root")
        mirrors, network = self.invocation.settings.registries
        opens = Repository.open if self.submission is None else Repository.view
        return opens(self.place, root=root, network=network, mirrored=mirrors.places)

    @property
    def network(self) -> Network | None:
        """How registries are reached, as the settings of this place say."""
        return self.invocation.settings.registries.network

    def is_simple(self) -> bool:
        """Say whether the repository has the profile simple."""
        return self.open().standing(state=self.memory()).profile == "simple"

    def at(self, place: str) -> Author:
        """Return the same author at another repository."""
        return replace(self, place=place)

    def memory(self) -> TrustStore | None:
        """Open the author's memory, if the place has one.

        Raises:
            StateLostError: it should have one, and it is not there or damaged.
        """
        if self.state is None:
            return None
        return open_memory(self.state)

    def trust(self) -> TrustStore:
        """Return what the repository is believed from: the memory, else its root.

        Raises:
            RefusedError: a registry, and neither is given.
        """
        from margo_supplychain.verify.trust_store import TrustStore

        found = self.memory()
        if found is None:
            found = TrustStore.unsafe_without_memory(root=self.open().root)
        return found

    def keyring(self) -> AbstractContextManager[Keyring]:
        """Return what opens keys, each once."""
        if self.pin is None:
            raise TypeError("this command opens no key")
        return keyring_of(self.invocation, self.pin)

    def signers(self, keyring: Keyring, *settings: str) -> list[Signer]:
        """Open the keys of `--key`, else those of the given settings."""
        if self.submission is not None:
            # A vendor has none of them, and nothing of his is signed by them.
            settings = tuple(one for one in settings if one not in ONLINE)
            if not (settings or self.keys):
                raise click.UsageError(
                    "--key is missing: a vendor signs with keys of his own"
                )
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
        with hinted(UNPUBLISHED), self.explained():
            keys = [*self.signers(keyring, *settings), *also]
            with self._editing(repository, memory, keys) as edit:
                yield edit
        warn(self.invocation, edit.warnings)

    def _editing(
        self,
        repository: Repository,
        memory: TrustStore | None,
        keys: Sequence[Signer],
    ) -> AbstractContextManager[Edit]:
        if self.submission is None:
            return repository.edit(keys, time_checked=self.time_checked, state=memory)
        return repository.submit(
            keys,
            inbox=self.submission.inbox(self.network),
            file=self.submission.file,
            note=self.submission.note,
            time_checked=self.time_checked,
            state=memory,
        )

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
        except RollbackError as why:
            if self.state is not None:
                why.hint = (
                    f"{self.place} shows an older state than your memory ({self.state})"
                    " has seen: nothing was signed; find out who brought it back"
                )
            raise
        except IncompleteError as why:
            from margo_supplychain.cli.missing_keys import missing_hint

            why.hint = missing_hint(self, why) or why.hint
            raise


def open_memory(directory: Path) -> TrustStore:
    """Open an author's memory of a repository.

    Raises:
        StateLostError: it is not there or damaged.
    """
    from margo_supplychain.verify.trust_store import TrustStore

    try:
        return TrustStore.open(directory)
    except StateLostError as why:
        if not os.path.lexists(directory):
            raise StateLostError(
                f"{directory} is not there: your memory of the repository was never "
                "begun, or is lost",
                path=str(directory),
                hint="begin it: margo-supplychain repo check --begin-from FILE, with a "
                "1.root.json that you got from somebody you trust; bring back a lost "
                "one from a backup",
            ) from why
        why.hint = (
            "bring it back from a backup; or remove what is left of it and begin anew: "
            "margo-supplychain repo check --begin-from FILE, with a 1.root.json that "
            "you got from somebody you trust"
        )
        raise


class _Place(TypedDict):
    place: str
    state: Path | None
    root: Path | None


def _place_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command `--repo`, `--state` and `--root`, as one argument `place`."""

    # A command may name its repository otherwise: who opens it asks for it.
    @setting_option("repo", help="The repository: DIR or oci://…", required=False)
    @setting_option("state", help="Your memory of it.", required=False)
    @setting_option(
        "root",
        help="A root that you trust, of a repository that is no directory.",
        required=False,
    )
    @functools.wraps(command)
    def with_place(
        *arguments: Any,
        repo: str | None,
        state: str | None,
        root: str | None,
        **options: Any,
    ) -> Result:
        place = _Place(place=repo or "", state=_path(state), root=_path(root))
        with hinted(RETRY):
            return command(*arguments, place=place, **options)

    return with_place


def reads(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command `--repo` and `--state`, and an `Author` without keys."""

    @_place_options
    @functools.wraps(command)
    def with_author(*arguments: Any, place: _Place, **options: Any) -> Result:
        author = Author(invocation=_invocation(), **place)
        return command(author, *arguments, **options)

    return with_author


def signs(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command what `reads` gives it, and keys to sign with."""

    @_place_options
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
        place: _Place,
        keys: tuple[str, ...],
        time_checked: bool,
        pin: Passphrases,
        **options: Any,
    ) -> Result:
        author = Author(
            invocation=_invocation(),
            **place,
            keys=keys,
            pin=pin,
            time_checked=time_checked,
        )
        return command(author, *arguments, **options)

    return with_author


def is_url(text: str) -> bool:
    """Say whether an argument names a place by URL, and not by path."""
    return re.match(r"(oci|https?)://|(oci-layout|oci-archive|file):", text) is not None


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


def signed_data(roles: Mapping[str, tuple[int, datetime]]) -> dict[str, Any]:
    """Return the roles that were signed, for JSON."""
    return {
        role: {"version": version, "expires": expires}
        for role, (version, expires) in roles.items()
    }


def edit_data(edit: Edit) -> dict[str, Any]:
    """Return what an edit signed and what its author should know, for JSON."""
    roles = {} if edit.written is None else edit.written.roles
    data: dict[str, Any] = {
        "signed": signed_data(roles),
        "warnings": list(edit.warnings),
    }
    found = handed_in(edit)
    if found is not None:
        data["submission"] = submission_data(found)
    return data


def signed_line(edit: Edit) -> str:
    """Return what an edit signed, for people: `acme v4, snapshot v8, timestamp v9`."""
    roles = {} if edit.written is None else edit.written.roles
    if not roles:
        waiting = {} if edit.written is None else edit.written.waiting
        names = ", ".join(name[:12] for name in waiting)
        also = f"; with {names}, which the operator has not taken yet" if names else ""
        return f"nothing, it is so already{also}"
    text = ", ".join(f"{role} v{version}" for role, (version, _) in roles.items())
    found = handed_in(edit)
    return text if found is None else f"{text}; {handed_in_text(found)}"
