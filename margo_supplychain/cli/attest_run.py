"""`attest run` and `attest record`: from the key to the words."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.authoring.recording.kept import keep
from margo_supplychain.authoring.recording.links import SUFFIX, Step, check_step
from margo_supplychain.authoring.recording.steps import Wishes, attest, check_output
from margo_supplychain.cli import describe
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.signing_keys import keyring_of
from margo_supplychain.formats.dsse import PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.authoring.recording.steps import Attested
    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.signing.keyring import PinHandler


def attest_step(
    invocation: Invocation,
    *,
    command: tuple[str, ...],
    key: str,
    pin: PinHandler,
    output: str,
    force: bool,
    **options: Any,
) -> Result:
    """Record a step, running its command if there is one, and write its link."""
    step = _step(options)
    wishes = _wishes(command, options)._replace(private=_private_files(key))
    with keyring_of(invocation, pin) as keyring:
        # The key opens before the command runs: somebody may have to type.
        signer = keyring.open(key)
        keyid = signer.public_key.keyid
        file = Path(output, f"{check_step(step.name)}.{keyid[:8]}{SUFFIX}")
        check_output(step, file)
        made = attest(step, wishes)
        is_new = keep(file, PAYLOAD, made.payload, signer, force=force)
    for note in made.notes:
        invocation.note(note)
    said = command if wishes.keep_command else ()
    return Result(
        data={
            "step": step.name,
            "file": str(file),
            "isNew": is_new,
            "keyId": keyid,
            "materials": made.materials,
            "products": made.products,
            "command": list(said),
            "notes": list(made.notes),
        },
        lines=[
            *_lines(made, step.name, file, keyid, said, is_new=is_new),
            _next(wishes.release, output, file),
        ],
    )


def _step(options: Mapping[str, Any]) -> Step:
    git = options["git"]
    return Step(
        name=options["step"],
        base=Path.cwd(),
        materials=tuple(dict.fromkeys(options["materials"])),
        products=tuple(dict.fromkeys(options["products"])),
        git=None if git is None else Path(git),
        exclude=tuple(dict.fromkeys(options["exclude"])),
        follow_symlinks=options["follow_symlinks"],
    )


def _wishes(command: tuple[str, ...], options: Mapping[str, Any]) -> Wishes:
    release = options["release"]
    return Wishes(
        command=command,
        keep_command=not options.get("no_command"),
        keep_streams=bool(options.get("record_streams")),
        variables=options["variables"],
        release=None if release is None else Path(release),
    )


def _private_files(key: str) -> tuple[Path, ...]:
    """Return the key and the files that open it, as they were typed."""
    from margo_supplychain.signing.keyring import is_file, path_of

    given = click.get_current_context().params
    answers = [*given["passphrase_files"], *given["pin_files"]]
    files = [Path(one.rpartition("=")[2]) for one in answers]
    return (path_of(key), *files) if is_file(key) else tuple(files)


def _lines(
    made: Attested,
    step: str,
    file: Path,
    keyid: str,
    command: tuple[str, ...],
    *,
    is_new: bool,
) -> list[str]:
    materials = describe.counted(made.materials, "material")
    products = describe.counted(made.products, "product")
    rows = [
        ("files", f"{materials}, {products}"),
        ("signed", f"by {keyid[:12]}"),
        ("link", f"{file}" if is_new else f"{file}, which said so already"),
    ]
    if command:
        rows.insert(0, ("ran", shlex.join(command)[:200]))
    return [
        f"recorded step {step}",
        *describe.table(rows),
    ]


def _next(release: Path | None, output: str, file: Path) -> str:
    """Return what follows: a release is published with the links of all steps."""
    # What will be adopted is no DIST: it is named by where it lies.
    if release is None or release.is_file():
        follow = f"attest show {shlex.quote(str(file))}"
    else:
        follow = f"release publish {shlex.quote(str(release))} --attestation "
        follow += shlex.quote(output)
    return f"next: margo-supplychain {follow}"
