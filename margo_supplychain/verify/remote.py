"""Where bytes come from decides what their defects mean.

The same parsers read local files and remote bytes. A defect of a file that somebody
named is an error of format; a defect of remote bytes is the answer no.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from margo_supplychain.errors import FormatError, MalformedError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def remote(what: str) -> Iterator[None]:
    """Turn `FormatError` about remote bytes into `MalformedError`."""
    try:
        yield
    except VerificationError:
        raise
    except FormatError as why:
        raise MalformedError(f"{what}: {why}", where=why.where) from why
