"""Docker's credential helpers: a program that is asked for one login, within limits.

The protocol of docker-credential-helpers: `get`, the server's address on standard
input, a JSON object on standard output. What it prints is a secret, even when it fails.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ANSWER: Final = 64 << 10
_LOOK: Final = 0.5  # seconds between two looks at the clock and at the caller
# Spelt as all helpers do; the protocol has no status for it.
_NOT_FOUND: Final = b"credentials not found in native keychain"


class Login(NamedTuple):
    """A user and a password; don't print it."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Show neither."""
        return "Login(…)"


def ask_helper(
    suffix: str,
    server: str,
    *,
    seconds: float,
    tick: Callable[[int], None] | None = None,
) -> Login | None:
    """Return what `docker-credential-SUFFIX` knows of a server, or None.

    Args:
        suffix: a checked name.
        server: the address under which Docker keeps the login.
        seconds: how long it may take.
        tick: called with 0 while it is waited for; may raise.

    Raises:
        FetchError: it is missing, fails, takes too long or prints something else.
    """
    program = f"docker-credential-{suffix}"

    def bad(text: str, hint: str) -> FetchError:
        return FetchError(
            f"credential helper {program} {text}", url=f"oci://{server}", hint=hint
        )

    by_hand = f"run `{program} get` by hand with {server} on its standard input"
    try:
        process = subprocess.Popen(  # noqa: S603 - named by the owner's own configuration
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as why:
        raise bad(
            f"can't be started: {why.strerror}",
            "install it, or name another one in Docker's config.json",
        ) from why
    with process:
        try:
            data = _converse(process, server.encode(), time.monotonic() + seconds, tick)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if data is None:
        raise bad(f"did not end within {seconds:g} s", by_hand)
    if len(data) > MAX_ANSWER:
        raise bad(f"printed more than {MAX_ANSWER} bytes", by_hand)
    if process.returncode != 0:
        if _NOT_FOUND in data:
            return None
        raise bad(f"failed with exit status {process.returncode}", by_hand)
    return _login(data, bad, by_hand)


def _converse(
    process: subprocess.Popen[bytes],
    question: bytes,
    deadline: float,
    tick: Callable[[int], None] | None,
) -> bytes | None:
    """Return its whole output, or the beginning of too much; None: not in time."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a helper without pipes")
    with suppress(BrokenPipeError):
        # Far below what a pipe holds: this doesn't wait.
        process.stdin.write(question)
        process.stdin.close()
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if tick is not None:
                tick(0)
            if not selector.select(min(left, _LOOK)):
                continue
            piece = os.read(process.stdout.fileno(), 1 << 16)
            answer += piece
            if not piece:
                return _ended(process, bytes(answer), deadline)
            if len(answer) > MAX_ANSWER:
                return bytes(answer)
    return None


def _ended(
    process: subprocess.Popen[bytes], answer: bytes, deadline: float
) -> bytes | None:
    try:
        process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        return None
    return answer


def _login(data: bytes, bad: Callable[[str, str], FetchError], hint: str) -> Login:
    try:
        members = strict_json.parse(data, what="it", limit=MAX_ANSWER)
    except FormatError as why:
        # Without the reason: it may repeat a part of what was printed.
        raise bad("printed no JSON object", hint) from why
    user, password = members.get("Username"), members.get("Secret")
    if not isinstance(user, str) or not isinstance(password, str):
        raise bad("printed no Username and Secret", hint)
    if not user or not password or not f"{user}{password}".isprintable():
        raise bad("printed an empty or unprintable Username or Secret", hint)
    return Login(user, password)
