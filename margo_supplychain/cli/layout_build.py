"""`layout build`: a layout from a file that people have reviewed, or such a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli import layout_describe as shown
from margo_supplychain.cli.describe import counted, date, now, table
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_files import write_fresh
from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securesystemslib.signer import Key

# As authoring.layout_templates has them: a help page loads none of it.
TEMPLATES: Final = (
    "build-test-package",
    "build-test-package-review",
    "two-builders-agree",
)
_EXAMPLE: Final = (
    "layout build --template build-test-package --by build=builder.pub "
    "--by test=tester.pub --by package=packer.pub"
)
_PERIOD: Final = "730d"
_KEY: Final = 16_384  # bytes
_YAML: Final = (".yaml", ".yml")


@click.command(
    epilog=epilog(
        examples=[
            _EXAMPLE,
            "layout build layout.toml",
            "layout build layout.yaml --out pump-2.json",
        ],
        exits=[0, 2, 4],
        follow="layout sign layout.json --key offline.key",
    )
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    help="Write a file to start from, in TOML: it is reviewed, and then built.",
)
@click.option(
    "--by",
    "by",
    multiple=True,
    metavar="STEP=KEY.pub[,KEY.pub…]",
    help="With --template: who does a step; may be repeated.",
)
@click.option(
    "--expires",
    metavar="730d|2031-01-01",
    help=f"With --template: when the layout ends, else in {_PERIOD}.",
)
@click.option("--readme", metavar="TEXT", help="With --template: one line for people.")
@click.option(
    "--out", metavar="FILE", help="Where to write it, in place of beside FILE."
)
@pass_invocation
def build(
    invocation: Invocation,
    *,
    file: str | None,
    template: str | None,
    by: tuple[str, ...],
    expires: str | None,
    readme: str | None,
    out: str | None,
) -> Result:
    """Build a layout from a reviewed FILE (TOML or YAML); or write such a file."""
    if (file is None) == (template is None):
        raise click.UsageError(
            "name the FILE to build, or a --template to write one from"
        )
    if template is not None:
        target = Path(out or "layout.toml")
        return _template(template, by, expires or _PERIOD, readme, target)
    if by or readme is not None or expires is not None:
        raise click.UsageError(
            "--by, --expires and --readme go with --template: FILE says it itself"
        )
    return _build(invocation, Path(file or ""), out)


def _template(
    name: str, by: Sequence[str], expires: str, readme: str | None, target: Path
) -> Result:
    from margo_supplychain.authoring.layout_plan import parse_moment, parse_plan
    from margo_supplychain.authoring.layout_templates import TEMPLATES as KNOWN
    from margo_supplychain.authoring.layout_templates import render

    parse_moment(expires, what="--expires", now=now())
    steps = _by_step(by)
    for uris in steps.values():
        for uri in uris:
            _read_key(Path(uri))  # before anything is written
    found = KNOWN[name]
    data = render(
        name,
        {step: [_beside(uri, target) for uri in uris] for step, uris in steps.items()},
        expires=expires,
        readme=readme or f"How a release is made: {found.says}.",
    )
    # What is written can be built.
    parse_plan(data, _keys(target), what=str(target), form="toml", now=now())
    write_fresh(target, data)
    return Result(
        data={"file": str(target), "template": name, "steps": list(found.steps)},
        lines=[
            f"wrote {target}: {found.says}",
            *table(
                [("look at it", "each rule says why it is there; change it to fit")]
            ),
            f"next: {PROGRAM} layout build {target}",
        ],
    )


def _build(invocation: Invocation, path: Path, out: str | None) -> Result:
    from margo_supplychain.authoring import layouts
    from margo_supplychain.authoring.layout_plan import LIMIT, parse_plan

    plan = parse_plan(
        read_named(path, limit=LIMIT, what="a layout in TOML or YAML"),
        _keys(path),
        what=str(path),
        form="yaml" if path.suffix in _YAML else "toml",
        now=now(),
    )
    made = layouts.LayoutFile.build(plan, what=str(path))
    warnings = layouts.check(made.layout, until=plan.supported_until)
    target = Path(out) if out else path.with_suffix(".json")
    write_fresh(target, made.to_bytes())
    for one in warnings:
        invocation.note(one)
    names = {key.keyid: name for name, key in plan.functionaries.items()}
    said = f"{counted(len(made.layout.steps), 'step')}, until {date(plan.expires)}"
    rows = [("payload", f"sha256 {made.digest.hex}")]
    rows += [
        (step.name, _who(step.threshold, [names[keyid] for keyid in step.keyids]))
        for step in made.layout.steps
    ]
    return Result(
        data={
            "file": str(target),
            "layout": shown.layout_data(made),
            "warnings": warnings,
        },
        lines=[
            f"built {target}: {said}",
            *table(rows),
            f"next: {PROGRAM} layout sign {target} --key …",
        ],
    )


def _who(threshold: int, names: Sequence[str]) -> str:
    return f"{threshold} of {', '.join(names)}" if len(names) > 1 else names[0]


def _by_step(by: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in by:
        step, divided, uri = one.partition("=")
        if not (step and divided and uri):
            raise click.UsageError(f"--by {one!r:.80} is not STEP=KEY.pub")
        # As `app policy --attestation` takes them; a file's name may have a comma.
        for key in [uri] if os.path.lexists(uri) else uri.split(","):
            if key in found.setdefault(step, []):
                raise click.UsageError(
                    f"--by {f'{step}={key}'!r:.80} is given twice: it counts once"
                )
            found[step].append(key)
    return found


def _beside(uri: str, target: Path) -> str:
    """Return a key file's path as a file beside `target` names it."""
    return os.path.relpath(uri, target.absolute().parent)


def _keys(path: Path) -> Callable[[str], Key]:
    """Return what reads the keys that a file names: beside it, or in it."""

    def read(text: str) -> Key:
        from margo_supplychain.signing.keys import parse_public_key

        if "-----BEGIN " in text:
            return parse_public_key(text.encode("utf-8"), what="the key")
        return _read_key(path.parent / text)

    return read


def _read_key(path: Path) -> Key:
    from margo_supplychain.signing.keys import parse_public_key

    try:
        return parse_public_key(
            read_named(path, limit=_KEY, what="a public key"), what=str(path)
        )
    except FormatError as why:
        if why.hint == why.default_hint:
            why.hint = "name the .pub file of the functionary's key"
        raise
