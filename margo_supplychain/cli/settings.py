"""Defaults of a place: `margo-supplychain.toml`, found here or in a parent directory.

A flag wins over the environment (`MARGO_SUPPLYCHAIN_REPO`), the environment over the
file, and `-v` says which applied. Neither holds a secret, and neither turns a check
off. Paths in the file are relative to the file, paths in the environment to the current
directory. The file says whose state and policy apply, so one that somebody else could
have written is refused, as git does since CVE-2022-24765.

Example of a file, as `repo init` writes it:

    repo = "trust"
    publisher = "acme"
    offline-key = "offline.key"
    online-key = "ci.key"
"""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from margo_supplychain.errors import FormatError, StorageError
from margo_supplychain.formats.toml import quoted
from margo_supplychain.storage import durable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.cli.registry_settings import RegistrySettings

FILE_NAME: Final = "margo-supplychain.toml"
FILE_VARIABLE: Final = "MARGO_SUPPLYCHAIN_SETTINGS"
_PREFIX: Final = "MARGO_SUPPLYCHAIN_"
_ROOT: Final = 0
# Where only an administrator installs. Code named by a file must lie in one of them.
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/opt")
_LIMIT: Final = 64 * 1024
_MAX_KEYS: Final = 32  # of one setting; no role has more keys than a person can name
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)

_PLACES: Final = ("repo", "state", "root", "inbox")
_MODULE: Final = "pkcs11-module"
_KEYS: Final = (
    "offline-key",
    "online-key",
    "root-key",
    "targets-key",
    "publisher-key",
    "release-key",
)
_TABLES: Final = ("mirrors", "registry")  # see cli.registry_settings
NAMES: Final = (*_PLACES, "publisher", *_KEYS, _MODULE)
# A device has a file of its own, `device.toml`; what lies in some working directory
# must not choose its memory, its source or its policy.
DEVICE_NAMES: Final = ("state", "source", "policy")


class Setting(NamedTuple):
    """A value and where it comes from; several values only for keys."""

    values: tuple[str, ...]
    origin: str


@final
class Settings:
    """The settings that apply in a directory.

    Args:
        directory: where the search for the file starts.
        environment: `os.environ`, or a test's.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def find(self, name: str, *, device: bool = False) -> Setting | None:
        """Return a setting from the environment or the file, or None.

        Args:
            name: which one.
            device: the setting of a device: from the environment alone.

        Raises:
            FormatError: the file is not one that can be used.
        """
        if name not in (DEVICE_NAMES if device else NAMES):
            raise ValueError(f"{name!r} is not a setting")
        variable = variable_of(name)
        value = self._environment.get(variable)
        if value:
            return Setting(values=(value,), origin=variable)
        if device:
            return None
        values = self._file_values.get(name)
        if values is None:
            return None
        return Setting(values=values, origin=str(self.file))

    @cached_property
    def file(self) -> Path | None:
        """The file that applies, or None.

        `MARGO_SUPPLYCHAIN_SETTINGS` names it outright; empty, it says that there is
        none.
        """
        named = self._environment.get(FILE_VARIABLE)
        if named is not None:
            return Path(named) if named else None
        for directory in (self._directory, *self._directory.parents):
            path = directory / FILE_NAME
            if os.path.lexists(path):
                return path
        return None

    @cached_property
    def pkcs11_module(self) -> Path | None:
        """The PKCS#11 module of tokens whose URI names none.

        Raises:
            FormatError: the file names one that does not belong to the system.
        """
        setting = self.find(_MODULE)
        if setting is None:
            return None
        path = Path(setting.values[0])
        if setting.origin != variable_of(_MODULE):
            check_module(path, what=setting.origin)
        return path

    @cached_property
    def registries(self) -> RegistrySettings:
        """The file's tables `[mirrors]` and `[registry."HOST"]`."""
        from margo_supplychain.cli.registry_settings import parse_registry_tables

        if self.file is None:
            return parse_registry_tables({}, self._directory, FILE_NAME)
        base = self.file.parent
        return parse_registry_tables(self._document, base, str(self.file))

    @cached_property
    def _document(self) -> Mapping[str, Any]:
        if self.file is None:
            return {}
        chosen = FILE_VARIABLE in self._environment
        return _load(_read(self.file, trusted=chosen), what=str(self.file))

    @cached_property
    def _file_values(self) -> Mapping[str, tuple[str, ...]]:
        if self.file is None:
            return {}
        found = _values_of(self._document, what=str(self.file))
        base = self.file.parent
        if base == self._directory:
            return found  # paths stay as short as they were written
        return {
            name: tuple(_from(base, value) for value in values)
            if name not in ("publisher", _MODULE)
            else values
            for name, values in found.items()
        }


def check_module(path: Path, *, what: str) -> None:
    """Check that code named by a settings file was installed, and not checked out.

    The file applies wherever somebody works, also in a tree that a stranger wrote:
    both it and a library beside it then belong to whoever checked it out.

    Args:
        path: a PKCS#11 module.
        what: the settings file.

    Raises:
        FormatError: it lies outside the directories of the system.
    """
    real = Path(os.path.realpath(path))
    if not path.is_absolute() or not any(real.is_relative_to(each) for each in _SYSTEM):
        raise FormatError(
            f"{what} names the PKCS#11 module {str(path)!r:.120}, expected one below "
            f"{', '.join(_SYSTEM)}",
            where=what,
            hint=f"name it on purpose: {variable_of(_MODULE)}={path}",
        )


def _check_key(uri: str, *, what: str) -> None:
    """Check the module that the URI of a key in a settings file names, if any."""
    if uri[:7].lower() == "pkcs11:" and "?" in uri:
        from margo_supplychain.signing.pkcs11.uri import TokenUri

        module = TokenUri.parse(uri).module_path
        if module is not None:
            check_module(module, what=what)


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: `offline-key` has …_OFFLINE_KEY."""
    return _PREFIX + name.upper().replace("-", "_")


def parse(data: bytes, *, what: str) -> dict[str, tuple[str, ...]]:
    """Parse the bytes of a settings file; its tables are not looked into.

    Raises:
        FormatError: not TOML, an unknown key, or a value that is not a text (or, for
            keys, a list of texts).
    """
    return _values_of(_load(data, what=what), what=what)


def _load(data: bytes, *, what: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as why:  # ValueError: also a number too long
        raise FormatError(
            f"{what} is not TOML: {_lower(str(why))}", where=what
        ) from why


def _values_of(document: Mapping[str, Any], *, what: str) -> dict[str, tuple[str, ...]]:
    unknown = sorted(set(document) - {*NAMES, *_TABLES})
    if unknown:
        raise FormatError(
            f"{what} has the unknown setting {unknown[0][:80]!r}, expected one of "
            f"{', '.join((*NAMES, *_TABLES))}",
            where=what,
        )
    found = {
        name: _values(name, value, what)
        for name, value in document.items()
        if name not in _TABLES
    }
    for name in _KEYS:
        for value in found.get(name, ()):
            _check_key(value, what=what)
    return found


def render(values: Mapping[str, str | Sequence[str]]) -> bytes:
    """Return the bytes of a settings file, for `repo init`."""
    unknown = set(values) - set(NAMES)
    if unknown:
        raise ValueError(f"not settings: {', '.join(sorted(unknown))}")
    lines = ["# Defaults inside this directory; flags and environment win over them."]
    for name in NAMES:
        if name in values:
            value = values[name]
            if isinstance(value, str):
                lines.append(f"{name} = {quoted(value)}")
            else:
                lines.append(f"{name} = [{', '.join(map(quoted, value))}]")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _read(path: Path, *, trusted: bool) -> bytes:
    try:
        with durable.open_regular(path) as stream:
            if not trusted:
                _check_owner(path, os.fstat(stream.fileno()))
            data = stream.read(_LIMIT + 1)
    except (OSError, StorageError) as why:
        reason = str(getattr(why, "strerror", why)).lower()
        raise FormatError(f"cannot read {path}: {reason}", where=str(path)) from why
    if len(data) > _LIMIT:
        raise FormatError(f"{path} has more than {_LIMIT} bytes", where=str(path))
    return data


def _check_owner(path: Path, status: os.stat_result) -> None:
    hint = f"make it yours alone, or name it on purpose: {FILE_VARIABLE}={path}"
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise FormatError(
            f"{path} belongs to another user (uid {status.st_uid})",
            where=str(path),
            hint=hint,
        )
    if status.st_mode & stat.S_IWOTH:
        raise FormatError(
            f"{path} may be written by everybody", where=str(path), hint=hint
        )


def _values(name: str, value: object, what: str) -> tuple[str, ...]:
    several = name in _KEYS
    values = value if several and isinstance(value, list) else [value]
    if not values or len(values) > _MAX_KEYS:
        raise FormatError(
            f"{what}: {name} lists {len(values)} keys, expected 1 to {_MAX_KEYS}",
            where=what,
        )
    for each in values:
        if not isinstance(each, str) or not each or not each.isprintable():
            kind = "a text or a list of texts" if several else "a text"
            raise FormatError(f"{what}: {name} is not {kind}", where=what)
    return tuple(values)


def _from(base: Path, value: str) -> str:
    if value.startswith("file:"):
        return str(base / value.removeprefix("file:"))
    if value.startswith("oci-layout:"):
        return f"oci-layout:{base / value.removeprefix('oci-layout:')}"
    return value if _URL.match(value) else str(base / value)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
