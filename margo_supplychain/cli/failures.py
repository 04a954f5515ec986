"""From an exception to what the user is told: slug, message, hint, exit status.

Knows the error tree, click's exceptions and `OSError`; prints nothing. Architecture §7
lists the exit statuses: 0 done, 1 internal or interrupted, 2 usage or bad local input,
3 rejected, 4 inconclusive, 5 incomplete, 6 signer.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    StorageError,
    SupplyChainError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from margo_supplychain.formats.reports import Report

PROGRAM: Final = "margo-supplychain"


_NO_FACTS: Final[Mapping[str, Any]] = {}


class Failure(NamedTuple):
    """Why a command did not do what it was asked, ready to be printed."""

    code: str
    message: str
    hint: str | None
    exit_status: int
    facts: Mapping[str, Any] = _NO_FACTS
    report: Report | None = None


INTERRUPTED: Final = Failure(
    code="interrupted",
    message="interrupted",
    hint="what was written is consistent; run the command again",
    exit_status=1,
)


@contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Say `hint` where an error has none but what a device does about it."""
    try:
        yield
    except InconclusiveError as why:
        if why.hint == InconclusiveError.default_hint:
            why.hint = hint
        raise


def failure_of(error: Exception) -> Failure:
    """Return what to say about an exception; an unexpected one is `internal`."""
    if isinstance(error, SupplyChainError):
        return Failure(
            code=error.code,
            message=str(error),
            hint=_login_hint(error) or error.hint,
            exit_status=error.exit_status,
            facts=error.facts(),
            report=error.report,
        )
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError):
        reason = (error.strerror or type(error).__name__).lower()
        name = error.filename
        path = None if name is None else str(name)
        return Failure(
            code=StorageError.code,
            message=reason if path is None else f"{path}: {reason}",
            hint=StorageError.default_hint,
            exit_status=StorageError.exit_status,
            facts={"path": path},
        )
    if isinstance(error, MemoryError):
        return Failure(
            code=InconclusiveError.code,
            message="not enough memory",
            hint=InconclusiveError.default_hint,
            exit_status=InconclusiveError.exit_status,
        )
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(
        code="internal",
        message=f"unexpected {text}",
        hint="run again with -v for the traceback, and report it",
        exit_status=1,
    )


def _login_hint(error: SupplyChainError) -> str | None:
    """Say which login was refused; None if it is about none."""
    if not isinstance(error, FetchError) or error.status not in {401, 403}:
        return None
    if error.hint is None or "docker login" not in error.hint:
        return None
    host = error.url.removeprefix("oci://").partition("/")[0]
    found = login_of(host)
    return None if found is None else f"{found}: {error.hint}"


def login_of(host: str) -> str | None:
    """Say where a registry's login was looked for, and whether there is one."""
    from margo_supplychain.transport.network import DEFAULT_NETWORK
    from margo_supplychain.transport.oci_registry.docker_config import about_login

    try:
        # The command line has no other file than Docker's own.
        return about_login(host, DEFAULT_NETWORK)
    except FetchError:
        return None


def _usage(error: click.ClickException) -> Failure:
    context = getattr(error, "ctx", None)
    command = PROGRAM if context is None else context.command_path
    hint = f"see `{command} --help`"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        message = "no command given"
    else:
        # click writes sentences; errors here are one lower-case line without full stop.
        message = " ".join(error.format_message().split()).removesuffix(".")
        message = message[:1].lower() + message[1:]
    if isinstance(error, click.NoSuchOption) and error.option_name in GLOBAL_OPTIONS:
        hint = f"{error.option_name} stands before the command: {PROGRAM} " + (
            "--format json …" if error.option_name == "--format" else "-v …"
        )
    return Failure(code="usage", message=message, hint=hint, exit_status=2)


GLOBAL_OPTIONS: Final = ("--format", "--verbose", "--quiet", "-v", "-q")
