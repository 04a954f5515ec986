"""Names of files as links may hold them: what devices would refuse is refused here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.recording.problems import EXCLUDE
from margo_supplychain.errors import ProvenanceError
from margo_supplychain.provenance.artifacts import check_look_alikes, check_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from margo_supplychain.authoring.recording.problems import Problems

_RENAME: Final = (
    "rename it: a link names files in UTF-8, normal form C, without control characters "
    "and backslashes"
)


def check_file_names(names: Collection[str], problems: Problems) -> None:
    """Add every name that no link may hold.

    Args:
        names: paths from one place; bytes that are no UTF-8 are surrogates.
        problems: where they are added.
    """
    try:
        "".join(names).encode()
        check_names(names, what="it")
        check_look_alikes(names, what="it")
    except (UnicodeEncodeError, ProvenanceError):
        text = [name for name in names if _is_text(name, problems)]
        found = [name for name in text if _is_name(name, problems)]
        _check_pairs(found, problems)


def _is_text(name: str, problems: Problems) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        problems.add(name, "has a name that is not UTF-8", _RENAME, EXCLUDE)
        return False
    return True


def _is_name(name: str, problems: Problems) -> bool:
    try:
        check_names([name], what="it")
    except ProvenanceError as why:
        text = f"has a name that devices refuse: it {why.found}"
        problems.add(name, text, _RENAME, EXCLUDE)
        return False
    return True


def _check_pairs(names: Collection[str], problems: Problems) -> None:
    try:
        check_look_alikes(names, what="it")
    except ProvenanceError as why:
        text = f"has a name that {why.found}"
        problems.add(why.artifact or "", text, _RENAME, EXCLUDE)
