"""Artifacts of a step: names that mean one file, and digests that mean one content.

Links of real builds name a hundred thousand files, so names and digests are looked at
all at once, and one by one only to say which is wrong. in-toto-python takes names as
they come and compares digests as dictionaries: `x/../secret` slips past a rule about
`secret/*`, `{}` equals `{}`, and sha256 with sha512 differs from sha256 alone.

Example:
    >>> same("00", "00"), same("00", ("sha256:00", "sha512:11"))
    (True, True)
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn

from margo_supplychain.errors import ProvenanceError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Hashes = str | tuple[str, ...]
"""Of sha256 alone its 64 hex digits; else, sorted, `algorithm:hex` of each."""

APPROVED: Final = {"sha256": 64, "sha384": 96, "sha512": 128}  # hex digits
# Digests of no bytes at all: such a file is in every pipeline, and joins nothing.
_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_EMPTY: Final = frozenset(
    f"{name}:{hashlib.new(name, b'').hexdigest()}" for name in APPROVED
)
MAX_NAME: Final = 4096  # characters, PATH_MAX of Linux
# NAME_MAX of Linux, for steps of names beyond ASCII: what sorts combining characters
# takes time that grows with the square of their number.
MAX_STEP: Final = 255
# One letter of three bytes may stand for 18; names of people and of machines don't.
_MOST_GROWTH: Final = 3  # characters in plain letters for each of a name
_FREE_GROWTH: Final = 32

_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_HEX_DIGITS: Final = b"0123456789abcdef"
_PRINTABLE: Final = bytes(set(range(0x20, 0x7F)) - set(b"\\"))
# Printable by category, and yet nobody sees them (Unicode's Default_Ignorable).
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def same(one: Hashes, other: Hashes) -> bool:
    """Say whether two artifacts have the same content.

    At least one algorithm must be common to both, and every common one must agree.
    """
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    ours, theirs = by_algorithm(one), by_algorithm(other)
    common = ours.keys() & theirs.keys()
    # check 4.43: nothing in common proves nothing
    if not common:
        return False
    return all(ours[each] == theirs[each] for each in common)


def by_algorithm(hashes: Hashes) -> dict[str, str]:
    """Return digests by the name of their algorithm."""
    if isinstance(hashes, str):
        return {"sha256": hashes}
    return dict(one.split(":", 1) for one in hashes)


def has_content(hashes: Hashes) -> bool:
    """Say whether an artifact is more than a file without bytes."""
    if isinstance(hashes, str):
        return hashes != _EMPTY_SHA256
    return _EMPTY.isdisjoint(hashes)


def shown_hashes(hashes: Hashes) -> str:
    """Return digests as people read them, each cut to 12 digits."""
    if isinstance(hashes, str):
        return f"sha256:{hashes[:12]}"
    return " ".join(one[: one.index(":") + 13] for one in hashes)


def check_names(names: Collection[str], *, what: str) -> None:
    """Refuse names that are not normalised relative paths, or that look like another.

    Refused: empty, absolute, `.`, `..`, `//`, a slash at the end, a backslash, what is
    not printable (control, format and bidirectional characters), characters that
    nobody sees, what is not in Unicode's normal form C, above 4096 characters, and
    beyond ASCII above 255 in one step.

    Raises:
        ProvenanceError: `artifact-name`, about the first such name.
    """
    # check 4.44: a name that is not normalised may mean a file that a rule is about
    if not _are_plain(names):
        _refuse_first(names, what)


def _refuse_first(names: Collection[str], what: str) -> NoReturn:
    found = ((name, _wrong(name)) for name in names)
    name, wrong = next(one for one in found if one[1] is not None)
    _refuse_name(name, f"{wrong}", what)


def _are_plain(names: Collection[str]) -> bool:
    """Say whether nothing is wrong with any of the names, as `_wrong` sees it."""
    plain = "\n".join(names)
    # Each step of a path on a line of its own.
    steps = f"\n{plain}\n".replace("/", "\n")
    return not names or (
        plain.count("\n") == len(names) - 1
        and "\n\n" not in steps
        and ("\n." not in steps or ("\n.\n" not in steps and "\n..\n" not in steps))
        and max(map(len, names)) <= MAX_NAME
        and (_is_plain_ascii(plain) if plain.isascii() else _is_plain_text(plain))
    )


def _is_plain_ascii(lines: str) -> bool:
    return not lines.replace("\n", "").encode("ascii").translate(None, _PRINTABLE)


def _is_plain_text(lines: str) -> bool:
    return (
        "\\" not in lines
        and lines.replace("\n", "").isprintable()
        and max(map(len, lines.replace("/", "\n").split("\n"))) <= MAX_STEP
        and _INVISIBLE.search(lines) is None
        and unicodedata.is_normalized("NFC", lines)
    )


def check_look_alikes(names: Collection[str], *, what: str) -> None:
    """Refuse two names that differ, but not once compatibility and case are folded.

    Of names in ASCII, `README` and `readme` are two files: only what is not ASCII can
    pass for something else.

    Refused as well is a name that grows beyond measure when it is folded.

    Raises:
        ProvenanceError: `artifact-name`, about the first such pair or name.
    """
    seen: dict[bytes, str] = {}
    in_ascii: dict[str, str] = {}
    for name in names:
        if name.isascii():
            continue
        folded = _folded(name)
        # check 4.58: what is compared is not many times as long as the name
        if len(folded) > _MOST_GROWTH * len(name) + _FREE_GROWTH:
            _refuse_name(name, f"has {len(folded)} characters in plain letters", what)
        # Of a hundred thousand, the folds would take more memory than their links.
        digest = hashlib.blake2b(folded.encode(), digest_size=16).digest()
        other = seen.setdefault(digest, name)
        # check 4.45: no name passes for another
        if other != name:
            _refuse_name(name, f"looks like {ascii(other)[:160]}", what)
        if folded.isascii():
            in_ascii[folded] = name
    for name in names if in_ascii else ():
        # check 4.59: a name in ASCII has no look-alike beyond it
        if name.isascii() and name.lower() in in_ascii:
            _refuse_name(
                in_ascii[name.lower()], f"looks like {ascii(name)[:160]}", what
            )


def _folded(name: str) -> str:
    # Folding may undo the normal form, and normalising may bring new letters.
    once = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", once).casefold()


def _wrong(name: str) -> str | None:
    if not 0 < len(name) <= MAX_NAME:
        return f"has {len(name)} characters, expected 1 to {MAX_NAME}"
    if "\\" in name:
        return "has a backslash"
    steps = name.split("/")
    if any(step in ("", ".", "..") for step in steps):
        return "is no relative, normalised path"
    if not name.isprintable() or _INVISIBLE.search(name) is not None:
        return "has characters that nobody sees"
    if not name.isascii() and max(map(len, steps)) > MAX_STEP:
        return f"has a step of more than {MAX_STEP} characters"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode's normal form C"
    return None


def _refuse_name(name: str, wrong: str, what: str) -> NoReturn:
    raise ProvenanceError(
        f"{what} names {ascii(name)[:160]}, which {wrong}",
        reason="artifact-name",
        artifact=name[:MAX_NAME],
        found=wrong,
        wanted="a relative path, normalised, that can be told from every other",
        hint="rename the file, or record the step with names that are paths",
    )


def read_hashes(values: Mapping[str, Any], *, what: str) -> dict[str, Hashes]:
    """Return the digests of artifacts, by name.

    Args:
        values: unverified parsed JSON: name → algorithm → hex.
        what: names the artifacts in errors, such as `products of step build`.

    Raises:
        ProvenanceError: `digest-algorithm`, where there is no sha256, sha384 or sha512
            or one is not lower-case hex of its length.
    """
    digests = values.values()
    try:
        found = [*map(itemgetter("sha256"), digests)]
        if (
            set(map(type, digests)) <= {dict}
            and set(map(len, digests)) <= {1}
            and not "".join(found).encode("ascii").translate(None, _HEX_DIGITS)
            and set(map(len, found)) <= {64}
        ):
            return dict(zip(values, found, strict=True))
    except (LookupError, TypeError, ValueError):
        pass  # not all alike: one by one, then
    return {name: _hashes(name, value, what) for name, value in values.items()}


def _hashes(name: str, value: object, what: str) -> Hashes:
    found = {}
    if isinstance(value, dict):
        for algorithm, digest in value.items():
            length = APPROVED.get(algorithm)
            if length is None:
                continue
            if (
                not isinstance(digest, str)
                or len(digest) != length
                or _HEX.fullmatch(digest) is None
            ):
                _refuse_digest(name, f"the {algorithm} {digest!r:.160}", what)
            found[algorithm] = digest
    # check 4.46: what has no digest that can be trusted has no content
    if not found:
        _refuse_digest(name, _algorithms(value), what)
    if len(found) == 1 and "sha256" in found:
        return found["sha256"]
    return tuple(sorted(f"{key}:{digest}" for key, digest in found.items()))


def _algorithms(value: object) -> str:
    shown = ", ".join(map(ascii, value))[:80] if isinstance(value, dict) else ""
    return shown or "no digest"


def _refuse_digest(name: str, found: str, what: str) -> NoReturn:
    raise ProvenanceError(
        f"{what} have {ascii(name)[:160]} with {found}, expected sha256, sha384 or "
        "sha512 in lower-case hex",
        reason="digest-algorithm",
        artifact=name[:MAX_NAME],
        found=found,
        wanted="sha256, sha384 or sha512",
        hint="record the step with sha256",
    )
