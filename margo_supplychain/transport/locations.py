"""Names of untrusted files as steps of a path or URL that lead nowhere else.

Example:
    >>> metadata_name("3.root.json", url="here")
    '3.root.json'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FetchError

if TYPE_CHECKING:
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath

# `timestamp.json` alone has no version in its name (TUF 6.2).
TIMESTAMP: Final = "timestamp.json"
_VERSIONED: Final = re.compile(r"[1-9][0-9]*\.(.+)\.json", re.ASCII)


def metadata_name(filename: str, *, url: str) -> str:
    """Return `filename` if it is one step.

    Raises:
        FetchError: it is not; no source can hold such a file.
    """
    if (
        not filename.endswith(".json")
        or "/" in filename
        or "\\" in filename
        or not filename.isprintable()
        or filename.startswith(".")
    ):
        raise FetchError(
            f"metadata {filename[:160]!r} is not a file name that ends in .json",
            url=url,
        )
    return filename


def is_versioned(filename: str) -> bool:
    """Tell whether a metadata file has its version in its name."""
    return _VERSIONED.fullmatch(filename) is not None


def removable(filename: str) -> str:
    """Return the name of a metadata file that may be removed.

    Raises:
        ValueError: it is a root, which a device may need that was off for years, or the
            timestamp, or no versioned name.
    """
    found = _VERSIONED.fullmatch(filename)
    if found is None or found[1] == "root":
        raise ValueError(f"{filename[:160]!r} stays: roots and the timestamp always do")
    return filename


def target_steps(path: TargetPath, *, url: str) -> list[str]:
    """Return the steps of a target path.

    Raises:
        FetchError: the path is empty, absolute or has a step `.` or `..`, or one of no
            length; no source can hold such a file.
    """
    steps = path.split("/")
    if (
        any(step in ("", ".", "..") for step in steps)
        or "\0" in path
        or not _is_unicode(path)
    ):
        raise FetchError(
            f"target path {path[:160]!r} is not relative and normalised", url=url
        )
    return steps


def hashed_target(path: TargetPath, what: Descriptor, *, url: str) -> list[str]:
    """Return the steps of `<dir>/<HASH>.<file>` (TUF 6.2, consistent snapshots).

    Raises:
        FetchError: as `target_steps`.
    """
    *directories, name = target_steps(path, url=url)
    return [*directories, f"{what.digest.hex}.{name}"]


def _is_unicode(text: str) -> bool:
    # JSON can spell half a surrogate pair, which no path or URL can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
