"""urllib3's log without what it would say about our requests.

It logs whole URLs, also those that a redirect has signed, and a server's broken headers
at any length, at WARNING too. What there is to say about a request, our errors say; of
its use by others nothing is touched.

Example:
    >>> with quiet():
    ...     logging.getLogger("urllib3.connectionpool").warning("a secret")
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Filters don't reach loggers below the one that has them.
_LOGGERS: Final = (
    "urllib3",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
)
_ours = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what urllib3 would log in this thread to ourselves."""
    before = getattr(_ours, "depth", 0)
    _ours.depth = before + 1
    try:
        yield
    finally:
        _ours.depth = before


def _is_others(_: logging.LogRecord) -> bool:
    return not getattr(_ours, "depth", 0)


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_others)
