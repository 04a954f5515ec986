"""The options of `app policy` that are about provenance.

A command gets them as one argument, `proof`, whose fields are called like them.

Example:
    >>> @click.command()
    ... @proof_options
    ... def policy(*, proof: ProofChanges) -> Result:
    ...     raise NotImplementedError
    >>> sorted(one.name for one in policy.params)[:2]
    ['attestation_threshold', 'attestations']
"""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.app_proof import TYPES, ProofChanges
from margo_supplychain.cli.arguments import ARTIFACT_OR_NONE, SPAN, VERSION_RANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.cli.output import Result

_OPTIONS: Final = (
    click.option(
        "--layout", metavar="FILE", help="A signed layout: releases are made by it."
    ),
    click.option(
        "--serves",
        type=VERSION_RANGE,
        metavar="RANGE",
        help="With --layout: of which versions, such as '^1.0'. What served one of "
        "them before is superseded.",
    ),
    click.option(
        "--layout-expires",
        multiple=True,
        metavar="[N=]DATE",
        help="When layout N, or the one given here, ends; N=none: as its file says.",
    ),
    click.option(
        "--drop-layout",
        "drop_layouts",
        type=click.IntRange(min=1),
        multiple=True,
        metavar="N",
        help="A layout that serves nothing any more: devices refuse what it made.",
    ),
    click.option(
        "--attestation",
        "attestations",
        multiple=True,
        metavar="TYPE=KEY.pub[,…]",
        help="Demand a statement, by one of these keys; TYPE=none: no more. TYPE is a "
        f"URL, or {', '.join(TYPES)}.",
    ),
    click.option(
        "--attestation-threshold",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many of the keys of each --attestation must sign it.",
    ),
    click.option(
        "--builder",
        "builders",
        multiple=True,
        metavar="URI",
        help="Who must have built, as SLSA provenance says; replaces, none for any.",
    ),
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="URI",
        help="What it must be built from, likewise.",
    ),
    click.option(
        "--summary-key",
        "summary_keys",
        multiple=True,
        metavar="KEY.pub",
        help="Whose verification summary small devices may take for the chain; none "
        "for nobody's.",
    ),
    click.option(
        "--summary-threshold",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many of them must sign a summary.",
    ),
    click.option(
        "--summary-max-age", type=SPAN, metavar="30d", help="How old it may be."
    ),
    click.option(
        "--revoke-functionary",
        "revoked",
        multiple=True,
        metavar="KEY.pub|KEYID",
        help="A functionary whose links count no more; may be repeated.",
    ),
    click.option(
        "--survivor",
        "survivors",
        type=ARTIFACT_OR_NONE,
        multiple=True,
        help="A release that was made before that key was lost, or none: replaces "
        "those named before.",
    ),
)


def proof_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command all of these options, as one argument `proof`."""

    @functools.wraps(command)
    def with_proof(*arguments: Any, **options: Any) -> Result:
        names = [one.name for one in fields(ProofChanges)]
        proof = ProofChanges(**{name: options.pop(name) for name in names})
        return command(*arguments, proof=proof, **options)

    decorated: Callable[..., Result] = with_proof
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
