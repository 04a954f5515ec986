"""`layout show`: a layout in plain words, and as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli import layout_describe as shown
from margo_supplychain.cli.arguments import RELEASE_NAME
from margo_supplychain.cli.author import Author, reads
from margo_supplychain.cli.describe import table
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.layout_sign import (
    read_layout_file,
    signers_of,
    standing_data,
    standing_lines,
)
from margo_supplychain.cli.options import epilog, setting_option
from margo_supplychain.cli.output import Result
from margo_supplychain.errors import ConflictError, RefusedError

if TYPE_CHECKING:
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import LayoutRule


@click.command(
    epilog=epilog(
        examples=[
            "layout show layout.json --svg layout.svg",
            "layout show --app acme/pump-monitor --number 2",
        ],
        exits=[0, 2, 3, 4],
        follow="layout sign layout.json --key offline.key",
    )
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "--app",
    "name",
    type=RELEASE_NAME,
    metavar="PUBLISHER/NAME",
    help="In place of FILE: a layout that the publisher lists for this application.",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --app: which one, if several are listed.",
)
@setting_option(
    "publisher",
    help="Whose layout FILE is: with --repo, says how many of its keys have signed.",
    required=False,
)
@click.option("--svg", metavar="FILE", help="Write it as a picture, too.")
@click.option("--dot", metavar="FILE", help="Write it for Graphviz, too.")
@reads
def show(
    author: Author,
    *,
    file: str | None,
    name: ReleaseName | None,
    number: int | None,
    publisher: str | None,
    svg: str | None,
    dot: str | None,
) -> Result:
    """Show a layout from FILE, or as the publisher of an application lists it."""
    if (file is None) == (name is None):
        raise click.UsageError("name a FILE, or an application with --app")
    if number is not None and name is None:
        raise click.UsageError("--number goes with --app")
    written = [one for one in (svg, dot) if one is not None]
    _require_apart([*written, *([file] if file else [])])
    if name is not None:
        return _listed(author, name, number, svg=svg, dot=dot)
    path = Path(file or "")
    found = read_layout_file(path)
    who = signers_of(author, publisher) if author.place else None
    lines = shown.words(found)
    if who is not None:
        lines += standing_lines(found, who)[0]
    else:
        lines += table([("signed", f"{_claimed(found)}: not verified")])
    _draw(found, str(path), svg=svg, dot=dot)
    return Result(
        data={
            "file": str(path),
            "layout": shown.layout_data(found),
            "standing": standing_data(found, who),
        },
        lines=[*lines, *(f"wrote {one}" for one in written)],
    )


def _listed(
    author: Author,
    name: ReleaseName,
    number: int | None,
    *,
    svg: str | None,
    dot: str | None,
) -> Result:
    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.cli.app_policy import layout_text, require_policy

    with author.look() as edit:
        policy = require_policy(edit, name)
        rule = _chosen(name, policy.layouts, number)
        data = edit.layout(name, rule.number)
        named = edit.named_releases(name)
        who = edit.signers(_offline(edit, name))
    found = LayoutFile.parse(data, what=f"layout {rule.number} of {name}")
    lines = [
        f"layout {rule.number} of {name}: {layout_text(rule, named)}",
        *shown.words(found),
        *([] if who is None else standing_lines(found, who)[0]),
    ]
    _draw(found, f"{name}, layout {rule.number}", svg=svg, dot=dot)
    written = [f"wrote {one}" for one in (svg, dot) if one is not None]
    return Result(
        data={
            "name": str(name),
            "rule": rule.to_dict(),
            "layout": shown.layout_data(found),
            "standing": standing_data(found, who),
        },
        lines=[*lines, *written, f"next: {PROGRAM} app show {name}"],
    )


def _chosen(
    name: ReleaseName, rules: tuple[LayoutRule, ...], number: int | None
) -> LayoutRule:
    """Return the layout that is asked for; the only one needs no number.

    Raises:
        RefusedError: there is none, or several.
    """
    known = [one.number for one in rules]
    if number is None and len(rules) == 1:
        return rules[0]
    found = next((one for one in rules if one.number == number), None)
    if found is not None:
        return found
    listed = ", ".join(str(one) for one in known)
    if number is not None or not rules:
        which = "no layout" if number is None else f"no layout {number}"
        hint = f"it has {listed}" if rules else "list one: app policy --layout FILE"
        raise RefusedError(f"{name} has {which}", hint=hint)
    raise RefusedError(
        f"{name} has {len(rules)} layouts: {listed}", hint="say which with --number"
    )


def _offline(edit: Edit, name: ReleaseName) -> str:
    return "targets" if edit.is_simple else name.publisher


def _claimed(found: LayoutFile) -> str:
    """Return the key ids that an envelope names; nothing of them is verified."""
    if found.envelope is None:
        return "by nobody"
    names = [(one.keyid or "nobody named")[:12] for one in found.envelope.signatures]
    return f"claims to be by {', '.join(names)}"


def _draw(found: LayoutFile, what: str, *, svg: str | None, dot: str | None) -> None:
    if svg is None and dot is None:
        return
    picture = shown.picture(found.layout, title=f"How a release is made: {what}")
    if svg is not None:
        _write(Path(svg), picture.svg())
    if dot is not None:
        _write(Path(dot), picture.dot())


def _write(path: Path, data: bytes) -> None:
    """Write a picture where nothing else is: a name that is typed may be a key's.

    Raises:
        RefusedError: something else is there.
    """
    from margo_supplychain.storage.durable import write_new_file

    try:
        write_new_file(path, data)
    except ConflictError as why:
        raise RefusedError(
            f"{path} exists, and is another file",
            hint="name a file that is not there, or remove it; it was not changed",
        ) from why


def _require_apart(names: list[str]) -> None:
    real: list[Any] = [os.path.realpath(one) for one in names]
    if len(set(real)) != len(real):
        raise click.UsageError(
            "one file is named twice: --svg and --dot write their own"
        )
