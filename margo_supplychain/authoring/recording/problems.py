"""Everything that can't be recorded as it is, said at once, with what helps.

Example:
    >>> problems = Problems()
    >>> problems.add("dist/socket", "is a socket", EXCLUDE)
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    margo_supplychain.errors.FormatError: dist/socket is a socket
"""

from __future__ import annotations

from typing import Final, final

from margo_supplychain.errors import FormatError

EXCLUDE: Final = "--exclude PATTERN leaves a file out, and the link says so"
FOLLOW: Final = (
    "--follow-symlinks records the file that a link leads to, under the link's name"
)
MAX_SHOWN: Final = 20


@final
class Problems:
    """What was found, in the order of finding."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._remedies: dict[str, None] = {}
        self._count = 0

    def add(self, name: str, text: str, *remedies: str) -> None:
        """Say what is wrong with a file.

        Args:
            name: the file's, as it may be shown.
            text: goes on after it.
            remedies: what helps, in whole sentences without full stops.
        """
        self._count += 1
        self._remedies |= dict.fromkeys(remedies)
        if len(self._texts) < MAX_SHOWN:
            self._texts.append(f"{shown(name)} {text}")

    def raise_if_any(self) -> None:
        """Raise all of them as one error.

        Raises:
            FormatError: there is one.
        """
        if not self._count:
            return
        left = self._count - len(self._texts)
        more = [f"and {left} more that can't be recorded"] if left else []
        raise FormatError(
            self._texts[0]
            if self._count == 1
            else f"{self._count} files can't be recorded as they are",
            problems=[*self._texts, *more] if self._count > 1 else (),
            hint="; ".join(self._remedies) or None,
        )


def shown(name: str) -> str:
    """Return a name from a file system as printable text, not too long."""
    try:
        name.encode()
    except UnicodeEncodeError:
        # The bytes that are no UTF-8, as the shell's $'…' would write them.
        name = name.encode("utf-8", "surrogateescape").decode(
            "utf-8", "backslashreplace"
        )
    if not name.isprintable():
        name = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode()
            for one in name
        )
    return name if len(name) <= 200 else f"{name[:150]}…{name[-40:]}"
