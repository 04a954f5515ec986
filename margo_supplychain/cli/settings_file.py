"""Whom a settings file is believed: who could have written it, and what it may name.

The file applies wherever somebody works, also in a tree that a stranger wrote and its
reader checked out: then owner and mode of everything in it look fine. So it names no
code but what the system installed, and no file whose content would be sent to a token.
Who means it says so where no tree can: in the environment or on the command line.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from margo_supplychain.errors import FormatError, StorageError
from margo_supplychain.storage import durable

FILE_VARIABLE: Final = "MARGO_SUPPLYCHAIN_SETTINGS"
MODULE_VARIABLE: Final = "MARGO_SUPPLYCHAIN_PKCS11_MODULE"
LIMIT: Final = 64 * 1024  # bytes
_ROOT: Final = 0
# Where the system's packages put libraries. People keep sources in /usr/src or /opt,
# and containers run in them.
_LIBRARIES: Final = re.compile(
    r"(?P<place>(?:/usr|/usr/local)?/lib(?:32|64|x32)?)/.+"
    r"|(?P<vendor>/opt/[^/]+)/lib(?:32|64|x32)?/.+",
    re.DOTALL,
)
_LIBRARIES_HINT: Final = "/usr/lib, /usr/local/lib, /lib or /opt/NAME/lib"


def read_settings(path: Path, *, chosen: bool) -> bytes:
    """Return the bytes of a settings file.

    Args:
        path: the file; a link to it is judged, too.
        chosen: the environment names it, so whoever wrote it is believed.

    Raises:
        FormatError: not readable, too large, or others could have written it.
    """
    try:
        if not chosen:
            _check_owner(path, path.lstat())
        with durable.open_regular(path) as stream:
            if not chosen:
                _check_owner(path, os.fstat(stream.fileno()))
            data = stream.read(LIMIT + 1)
    except (OSError, StorageError) as why:
        reason = str(getattr(why, "strerror", why)).lower()
        raise FormatError(f"cannot read {path}: {reason}", where=str(path)) from why
    if len(data) > LIMIT:
        raise FormatError(f"{path} has more than {LIMIT} bytes", where=str(path))
    return data


def base_of(path: Path) -> Path:
    """Return where a settings file's paths start: where it really is."""
    return Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent


def check_key(uri: str, *, base: Path | None, chosen: bool, what: str) -> None:
    """Check what the URI of a key in a settings file brings with it.

    Args:
        uri: a path or URI.
        base: where the file is; None for one that is not there yet.
        chosen: the environment names the file.
        what: names the file in errors.

    Raises:
        FormatError: it names a PIN's file, or code that the system did not install.
        SignerError: it holds a PIN, or is none.
    """
    if uri[:7].lower() != "pkcs11:":
        return
    from margo_supplychain.signing.pkcs11.uri import TokenUri

    found = TokenUri.parse(uri)
    if found.module_path is not None:
        check_module(found.module_path, base=base, what=what)
    if found.pin_source is not None and not chosen:
        raise FormatError(
            f"{what} names {str(found.pin_source)!r:.120} as the file with the PIN of "
            f"{found.without_query()}: what lies there would be sent to a token",
            where=what,
            hint="take pin-source out and give --pin-file, or name the settings on "
            f"purpose: {FILE_VARIABLE}={what}",
        )


def check_module(path: Path, *, base: Path | None, what: str) -> None:
    """Check that code named by a settings file was installed, and not checked out.

    Args:
        path: a PKCS#11 module.
        base: where the settings file is.
        what: names it in errors.

    Raises:
        FormatError: not a whole path, outside of where the system has libraries, in
            one tree with the settings, or changeable by others than root.
    """
    named = f"{what} names the PKCS#11 module {str(path)!r:.120}"
    if not path.is_absolute():
        raise FormatError(
            f"{named}, expected its whole path",
            where=what,
            hint="as in /usr/lib/softhsm/libsofthsm2.so: the module's package lists "
            "its files",
        )
    hint = f"name it on purpose: {MODULE_VARIABLE}={path}"
    real = Path(os.path.realpath(path))
    found = _LIBRARIES.fullmatch(str(real))
    if found is None:
        raise FormatError(
            f"{named}, expected one below {_LIBRARIES_HINT}", where=what, hint=hint
        )
    place = found["place"] or found["vendor"]
    for near in () if base is None else (base, Path(os.path.realpath(base))):
        if near.is_relative_to(place) or real.is_relative_to(near):
            raise FormatError(
                f"{named}, in one tree with itself: who wrote one may have written "
                "both",
                where=what,
                hint=hint,
            )
    for each in (real, *real.parents):
        problem = _changeable(each)
        if problem is not None:
            raise FormatError(f"{named}: {each} {problem}", where=what, hint=hint)


def _changeable(path: Path) -> str | None:
    """Return why others than root may change what lies there, or None."""
    try:
        status = path.lstat()
    except OSError:
        return None  # whether it can be loaded is judged by who loads it
    if status.st_uid != _ROOT:
        return f"does not belong to root (uid {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"may be changed by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _check_owner(path: Path, status: os.stat_result) -> None:
    hint = f"make it yours alone, or name it on purpose: {FILE_VARIABLE}={path}"
    link = stat.S_ISLNK(status.st_mode)
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise FormatError(
            f"{path} {'is a link that ' if link else ''}belongs to another user "
            f"(uid {status.st_uid})",
            where=str(path),
            hint=hint,
        )
    # A link's own mode means nothing.
    if not link and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        whom = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        raise FormatError(
            f"{path} may be written by {whom}", where=str(path), hint=hint
        )
