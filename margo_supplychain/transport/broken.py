"""A connection that gave nothing, or nothing more; callers never see it.

Example:
    >>> str(broken(OSError(111, "Connection refused")))
    'connection refused'
"""

from __future__ import annotations

import re
import ssl
from http.client import HTTPException, IncompleteRead
from typing import Final

from urllib3 import exceptions

_ON_TLS: Final = re.compile(r"\[[A-Z0-9_: ]{1,80}\] | \(_ssl\.c:[0-9]{1,6}\)", re.ASCII)
# What OpenSSL calls it when http answers; the last since its version 3.2.
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}
)
_CA_HINT: Final = (
    "if the server, or a proxy on the way, has a private CA, name its certificates as "
    "ca_file"
)
_PLAIN_HINT: Final = (
    "if it is a mirror of your own that speaks plain http, set plain_http = true in "
    '[registry."HOST:PORT"]'
)


class BrokenError(Exception):
    """A connection gave nothing, or nothing more.

    Args:
        text: why, for people.
        is_slow: it took too long.
        is_final: the next attempt would end the same way.
        hint: what a person can do about it.
    """

    def __init__(
        self,
        text: str,
        *,
        is_slow: bool = False,
        is_final: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(text)
        self.is_slow = is_slow
        self.is_final = is_final
        self.hint = hint


def broken(why: Exception) -> BrokenError:
    """Return what urllib3, http.client or a socket says, in one shape."""
    # urllib3 counts a refused connection among the timeouts.
    is_slow = isinstance(why, exceptions.TimeoutError) and not isinstance(
        why, exceptions.NewConnectionError
    )
    inner = _innermost(why)
    # A certificate that is wrong now is wrong in a second; a server that hangs up while
    # it shows its own may do better.
    is_final = isinstance(why, exceptions.SSLError) and not isinstance(
        inner, ssl.SSLEOFError
    )
    text, hint = _reason(inner), None
    if text.startswith("certificate verify failed"):
        hint = _CA_HINT
    elif isinstance(inner, ssl.SSLError) and inner.reason in _NO_TLS:
        text = "the answer is not TLS"
        # Of a proxy, its URL says how it is spoken to.
        hint = None if isinstance(why, exceptions.ProxyError) else _PLAIN_HINT
    return BrokenError(text, is_slow=is_slow, is_final=is_final, hint=hint)


def _reason(inner: BaseException) -> str:
    """Say what happened, without the objects of urllib3 that stand around it."""
    if isinstance(inner, IncompleteRead):
        return "the connection ended early"
    if isinstance(inner, HTTPException) and not isinstance(inner, OSError):
        return "the answer is not HTTP"
    text = (isinstance(inner, OSError) and inner.strerror) or str(inner)
    if isinstance(inner, ssl.SSLError):
        text = _ON_TLS.sub("", text)
    text = visible(" ".join(text.split())[:200]) or type(inner).__name__
    return text[:1].lower() + text[1:]


def visible(text: str) -> str:
    r"""Return `text` with everything that a terminal would act on written as escapes.

    Example:
        >>> visible("a" + chr(0x9b) + "31m")
        'a\\x9b31m'
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def _innermost(why: BaseException) -> BaseException:
    while True:
        around = (*why.args, getattr(why, "original_error", None), why.__cause__)
        deeper = next((one for one in around if isinstance(one, BaseException)), None)
        if deeper is None:
            return why
        why = deeper
