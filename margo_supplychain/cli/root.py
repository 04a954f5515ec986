"""`margo-supplychain root`: changing a repository's root, by several people apart."""

from __future__ import annotations

import click

from margo_supplychain.cli.root_adopt import finalize, rehearse
from margo_supplychain.cli.root_draft import draft
from margo_supplychain.cli.root_propose import propose
from margo_supplychain.cli.root_show import show, status
from margo_supplychain.cli.root_sign import merge, sign


@click.group()
def root() -> None:
    """Change who signs a repository's roles, with the consent of enough holders."""


for command in (propose, draft, sign, merge, status, show, rehearse, finalize):
    root.add_command(command)
