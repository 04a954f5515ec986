"""The files of `--attestation`: envelopes, or directories of them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.files import read_named
from margo_supplychain.errors import FormatError, ProvenanceError, SupplyChainError
from margo_supplychain.formats.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENDING: Final = ".dsse.json"
_SHOWN: Final = 3  # names of files in a hint

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
    return [data for _, data in _read(places)]


@contextmanager
def given_attestations(places: Sequence[str]) -> Iterator[list[bytes]]:
    """Read what `--attestation` names; what is wrong with it names the files.

    Errors call an envelope by its digest, for it may come from anywhere; people know
    its file.

    Raises:
        FormatError, StorageError: as `read_attestations`.
    """
    files = _read(places)
    try:
        yield [data for _, data in files]
    except SupplyChainError as why:
        named = [
            str(path)
            for path, data in files
            if Digest.of(data).short in str(why) or str(Digest.of(data)) in _at(why)
        ]
        if named:
            more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
            text = f"look at {', '.join(named[:_SHOWN])}{more}"
            why.hint = text if why.hint is None else f"{text}; {why.hint}"
        raise


def require_outputs(outputs: Sequence[str]) -> None:
    """Refuse attestations among what is published: a shell has named each by itself.

    Raises:
        click.UsageError: one is there.
    """
    for one in outputs:
        if one.endswith(ENDING):
            raise click.UsageError(
                f"{one} is no DIST but an attestation: give --attestation a directory, "
                "or repeat it for each file"
            )


def _at(why: SupplyChainError) -> set[str]:
    """Return the digests of the links of the step that an error is about."""
    if not isinstance(why, ProvenanceError) or why.trace is None:
        return set()
    return {
        link["digest"]
        for step in why.trace["steps"]
        if step["name"] == why.step
        for link in step["links"]
    }


def _read(places: Sequence[str]) -> list[tuple[Path, bytes]]:
    from margo_supplychain.authoring.attestations import MAX_TOGETHER
    from margo_supplychain.formats.dsse import MAX_ENVELOPE
    from margo_supplychain.formats.record import MAX_ATTESTATIONS

    found: list[tuple[Path, bytes]] = []
    left = MAX_TOGETHER
    for path in _files(places):
        if len(found) == MAX_ATTESTATIONS:
            raise FormatError(
                f"--attestation names more than {MAX_ATTESTATIONS} files",
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
        found.append((path, data))
    return found


def _files(places: Sequence[str]) -> Iterator[Path]:
    for place in map(Path, places):
        if not place.is_dir():
            if not place.name.endswith(ENDING) and not place.exists():
                raise FormatError(
                    f"{place}: no such file or directory, expected signed attestations",
                    where=str(place),
                    hint="name the files, or the directory that `attest run --output` "
                    "wrote to",
                )
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
