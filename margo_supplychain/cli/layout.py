"""`margo-supplychain layout`: what the making of a release must have gone through."""

from __future__ import annotations

import click

from margo_supplychain.cli.layout_build import build
from margo_supplychain.cli.layout_show import show
from margo_supplychain.cli.layout_sign import sign


@click.group()
def layout() -> None:
    """Say which steps make a release, who does them, and what goes in and out."""


for command in (build, sign, show):
    layout.add_command(command)
