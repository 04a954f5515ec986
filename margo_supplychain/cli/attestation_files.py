"""The files of `--attestation`: envelopes, or directories of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.files import read_named
from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENDING: Final = ".dsse.json"
MOST: Final = 1_000  # files, as a record names
MAX_TOGETHER: Final = 256 << 20  # bytes, as devices read

attestation_option = click.option(
    "--attestation",
    "attestations",
    multiple=True,
    metavar="FILE|DIR",
    help="A signed link, statement or summary of it, or a directory of *.dsse.json; "
    "may be repeated.",
)


def read_attestations(places: Sequence[str]) -> list[bytes]:
    """Return the envelopes that `--attestation` names.

    Raises:
        FormatError: a file that is not there or too large, a directory without any,
            or too many of them.
        StorageError: one can't be read.
    """
    from margo_supplychain.formats.dsse import MAX_ENVELOPE

    found: list[bytes] = []
    left = MAX_TOGETHER
    for path in _files(places):
        if len(found) == MOST:
            raise FormatError(
                f"--attestation names more than {MOST} files",
                hint="a release has no more: leave out what no policy asks for",
            )
        data = read_named(path, limit=MAX_ENVELOPE, what="a signed attestation")
        left -= len(data)
        if left < 0:
            raise FormatError(
                f"--attestation names files of more than {MAX_TOGETHER} bytes together",
                hint="devices read no more of one release: leave out what no policy "
                "asks for",
            )
        found.append(data)
    return found


def _files(places: Sequence[str]) -> Iterator[Path]:
    for place in map(Path, places):
        if not place.is_dir():
            yield place
            continue
        # What `attest` writes; a directory may hold the layout and keys as well.
        files = sorted(place.glob(f"*{ENDING}"))
        if not files:
            raise FormatError(
                f"{place}: no file *{ENDING} in it, expected signed attestations",
                where=str(place),
                hint="name the files, or the directory that `attest run --output` "
                "wrote to",
            )
        yield from files
