"""One step, from what is asked to the link's bytes: look, run, look again.

What could go wrong without the command is found before it runs: it may take an hour.

Example:
    >>> made = attest(Step("build", base=Path.cwd(), products=("dist",)),
    ...     Wishes(command=("make",)))  # doctest: +SKIP
    >>> made.products  # doctest: +SKIP
    2
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.recording import links
from margo_supplychain.authoring.recording.exclusions import Exclusions
from margo_supplychain.authoring.recording.git_files import CHANGED
from margo_supplychain.authoring.recording.hashing import SIZE, hash_file
from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.authoring.recording.run import Ran, Stream, run_command
from margo_supplychain.authoring.recording.scanning import Scanner
from margo_supplychain.authoring.recording.secrets import (
    check_command,
    is_secret,
    secret_values,
    variables,
    without_secrets,
)
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.release_products import DIRTY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from margo_supplychain.authoring.recording.files import Recorded
    from margo_supplychain.authoring.recording.links import Step
    from margo_supplychain.authoring.release import Release


class Wishes(NamedTuple):
    """What else is asked of a recording.

    Args:
        command: what is run between materials and products; empty: nothing.
        keep_command: whether the link says what was run.
        keep_streams: whether it says what that printed.
        variables: names of variables of the environment that it holds.
        release: what a build left, or the file of one that will be adopted; what it is
            becomes products under fixed names. Read after the command, which may make
            it.
        private: files whose digests must not become public: keys and passphrases.
    """

    command: tuple[str, ...] = ()
    keep_command: bool = True
    keep_streams: bool = False
    variables: tuple[str, ...] = ()
    release: Path | None = None
    private: tuple[Path, ...] = ()


class Attested(NamedTuple):
    """A link that is ready to be signed.

    Args:
        payload: its bytes.
        materials, products: how many.
        notes: what its author should know, one line each.
    """

    payload: bytes
    materials: int
    products: int
    notes: tuple[str, ...]


def attest(
    step: Step, wishes: Wishes, *, environment: Mapping[str, str] = os.environ
) -> Attested:
    """Record a step, running its command if there is one.

    Args:
        step: what is recorded.
        wishes: how.
        environment: what the command gets; secrets in it are looked for.

    Raises:
        FormatError: what can't be recorded, or devices would not take.
        CommandFailedError: the command did not succeed.
        ConflictError: files changed while they were looked at.
        StorageError: files can't be read.
        KeyboardInterrupt: it was interrupted.
    """
    links.check_step(step.name)
    secrets = secret_values(environment)
    said = wishes.command if wishes.keep_command else ()
    _check_text(said)
    check_command(said, secrets)
    chosen = variables(wishes.variables, environment)
    before = links.record_materials(step)
    _check_private(step, wishes, before.artifacts)
    ran = None
    if wishes.command:
        ran = run_command(
            wishes.command,
            keep_streams=wishes.keep_streams,
            label=without_secrets(shlex.join(wishes.command), secrets),
        )
        ran = _without(ran, secrets)
    after = links.record_products(step)
    _check_private(step, wishes, after.artifacts)
    materials, products = before.artifacts, after.artifacts
    if wishes.release is not None:
        release = _release(wishes.release)
        of_others, made = links.release_artifacts(release)
        materials = links.joined(materials, of_others)
        products = links.joined(products, made)
    payload = links.link_of(
        step,
        materials=materials,
        products=products,
        command=said,
        byproducts=links.byproducts_of(
            step, materials=before.recorded, products=after, ran=ran
        ),
        variables=chosen,
    )
    notes = [*_notes(step, before, after), *_secret_notes(wishes.variables)]
    return Attested(payload, len(materials), len(products), tuple(notes))


def _release(place: Path) -> Release:
    from margo_supplychain.authoring.drafts import read_adopted
    from margo_supplychain.authoring.release import Release

    return read_adopted(place) if place.is_file() else Release.from_build(place)


def check_output(step: Step, file: Path) -> None:
    """Refuse a file that would be recorded as part of its own step the next time.

    Raises:
        FormatError: it lies in what is recorded, and is not left out.
    """
    scanner = Scanner(step.base, Exclusions(), follow=False)
    base = f"{os.path.realpath(step.base)}/"
    full = f"{os.path.realpath(file.parent)}/{file.name}"
    if not full.startswith(base):
        return
    name = full[len(base) :]
    for path in (*step.materials, *step.products):
        recorded = scanner.name_of(path)
        inside = not recorded or name == recorded or name.startswith(f"{recorded}/")
        if inside and not Exclusions(step.exclude).take_below(name):
            raise FormatError(
                f"the link would be written into {path}, which it records: {name}",
                where=path,
                hint="--output names another directory, or --exclude "
                f"'*{links.SUFFIX}' leaves links out",
            )


def _check_private(step: Step, wishes: Wishes, found: links.Artifacts) -> None:
    """Refuse what a dictionary would open: the public digest of a passphrase.

    Under whatever name: links, hard links and copies have the same digest.
    """
    base = f"{os.path.realpath(step.base)}/"
    names = {digests["sha256"]: name for name, digests in found.items()}
    for path in wishes.private:
        real = os.path.realpath(path)
        name = real.removeprefix(base)
        if name not in found:
            hashed = hash_file(real)
            # Emptiness is nobody's secret.
            if hashed is None or not hashed[1][SIZE]:
                continue
            name = names.get(hashed[0].hex(), "")
        if name:
            raise FormatError(
                f"{shown(name)} is a secret of this command, and its digest would "
                "become public",
                where=name,
                hint=f"keep it elsewhere, or leave it out: --exclude {name}",
            )


def _check_text(command: tuple[str, ...]) -> None:
    try:
        "".join(command).encode()
    except UnicodeEncodeError as why:
        raise FormatError(
            "an argument of the command is not UTF-8",
            hint="--no-command leaves it out of the link",
        ) from why


def _without(ran: Ran, secrets: Mapping[str, str]) -> Ran:
    def clean(stream: Stream | None) -> Stream | None:
        if stream is None:
            return None
        return stream._replace(text=without_secrets(stream.text, secrets))

    return ran._replace(stdout=clean(ran.stdout), stderr=clean(ran.stderr))


def _notes(step: Step, before: links.Materials, after: Recorded) -> list[str]:
    notes = []
    if before.dirty:
        few = ", ".join(f"{status} {shown(name)}" for status, name in before.dirty[:3])
        more = f" and {len(before.dirty) - 3} more" if len(before.dirty) > 3 else ""
        notes.append(
            f"the working tree is not as the commit has it ({few}{more}): a layout "
            f"that does not allow {DIRTY} refuses this link{_filtered(before.dirty)}"
        )
    notes += [
        f"--exclude {pattern} left out nothing"
        for pattern in dict.fromkeys(step.exclude)
        if not before.recorded.excluded.get(pattern) and not after.excluded.get(pattern)
    ]
    missing = before.recorded.missing
    if missing:
        notes.append(f"{len(missing)} files that git tracks are not there")
    return notes


def _filtered(dirty: tuple[tuple[str, str], ...]) -> str:
    if all(status != CHANGED for status, _ in dirty):
        return ""
    return "; what git converts when it checks out (LFS, line ends) counts as changed"


def _secret_notes(names: tuple[str, ...]) -> list[str]:
    return [
        f"{name} looks like a secret, and everybody can read it in the link"
        for name in dict.fromkeys(names)
        if is_secret(name)
    ]
