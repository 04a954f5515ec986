"""`root show` and `root status`: who may sign what, and who must sign next."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli import describe, root_draft, root_submission
from margo_supplychain.cli import root_describe as shown
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.options import epilog, missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_status import duty_data, who
from margo_supplychain.cli.root_files import (
    Trust,
    is_submission,
    trusts,
    typed_place,
)
from margo_supplychain.errors import FetchError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.formats.tuf_metadata import RoleFile


@click.command(
    epilog=epilog(
        examples=[
            "root status root-2.json",
            "--format json root status root-2.json --root 1.root.json",
        ],
        exits=[0, 2, 3, 4, 5],
        follow="root sign root-2.json --key a.key",
    )
)
@click.argument("file", metavar="FILE")
@root_draft.proposal_option
@trusts
def status(trust: Trust, *, file: str, proposal: str | None) -> Result:
    """Say who has signed a root proposal, and who must sign next."""
    path = Path(file)
    if proposal is not None:
        return root_draft.status(trust, path, proposal=Path(proposal))
    if is_submission(path):
        return root_submission.status(trust, path)
    found = trust.read(path)
    lines = [
        shown.heading(found),
        *describe.table(shown.compared(found)),
        *shown.signatures(found),
    ]
    sent = shown.sent_back(trust, path)
    return shown.standing(found, path, lines=lines, afterwards=sent)


@click.command(
    epilog=epilog(
        examples=[
            "root show",
            "root show root-2.json",
            "root show --as-plan > plan.toml",
        ],
        exits=[0, 2, 3, 4],
        follow="root propose --plan plan.toml",
    )
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--as-plan", is_flag=True, help="Print it as a plan (TOML).")
@trusts
def show(trust: Trust, *, file: str | None, as_plan: bool) -> Result:
    """Show the root that is trusted; or what the proposal in FILE changes of it."""
    if file is not None:
        if as_plan:
            raise click.UsageError("--as-plan prints what is trusted, not a proposal")
        if is_submission(Path(file)):
            return root_submission.show(trust, Path(file))
        return _proposal(trust, Path(file))
    chain = trust.chain()
    if chain is None:
        raise click.UsageError(f"{missing_setting('repo')}; or name a root with --root")
    if as_plan:
        return _plan(trust, chain.trusted)
    duties = _duties(trust)
    root = chain.trusted
    return Result(data=_data(root, duties), lines=list(_lines(root, duties)))


def _proposal(trust: Trust, path: Path) -> Result:
    proposal = trust.read(path)
    return Result(
        data=shown.proposal_data(proposal, path),
        lines=[
            *shown.change(proposal),
            f"next: {PROGRAM} root sign {path}{typed_place()} --key …",
        ],
    )


def _plan(trust: Trust, root: RoleFile[Root]) -> Result:
    from margo_supplychain.authoring.plan import RootPlan
    from margo_supplychain.authoring.plan_file import render_plan

    if trust.author.place:
        plan = trust.author.open().plan(state=trust.author.memory())
    else:
        plan = RootPlan.of(root.signed)
    text = render_plan(plan).decode("utf-8")
    return Result(data={"version": root.version, "plan": text}, lines=text.splitlines())


def _duties(trust: Trust) -> dict[str, Duty]:
    """Return who must act by when; nothing where only roots are at hand."""
    author = trust.author
    if not author.place:
        return {}
    try:
        found = author.open().status(within=timedelta(0), state=author.memory())
    except (VerificationError, FetchError) as why:
        # Whoever must make a new root has to see this one all the same.
        author.invocation.note(f"{author.place} does not verify below its root: {why}")
        return {}
    return {one.role: one for one in found}


def _lines(root: RoleFile[Root], duties: dict[str, Duty]) -> Iterator[str]:
    from margo_supplychain.authoring.holders import NOBODY, known_holders
    from margo_supplychain.authoring.plan import TOP_ROLES

    yield f"root v{root.version}"
    yield from describe.table([("sha256", root.sha256)])
    known = known_holders(root.signed)
    keys: dict[str, list[str]] = {}
    rows = [("role", "keys", "expires", "who must act")]
    for role in TOP_ROLES:
        found = root.signed.roles[role]
        for keyid in found.keyids:
            keys.setdefault(keyid, []).append(role)
        of = f"{found.threshold} of {len(found.keyids)}"
        rows.append((role, of, *_by(role, root, duties.get(role))))
    yield from describe.table(rows)
    yield from describe.table(
        (keyid[:12], ", ".join(roles), known.get(keyid, NOBODY).text)
        for keyid, roles in keys.items()
    )


def _by(role: str, root: RoleFile[Root], duty: Duty | None) -> tuple[str, str]:
    """Return when a role expires, and who must act by when."""
    expires = root.expires if role == "root" else None
    begins = None
    if duty is not None:
        expires, begins = duty.expires or expires, duty.begins
    shown = "" if expires is None else describe.date(expires)
    if duty is None:
        return shown, ""
    text = who(duty)
    if begins is not None:
        text += f", from {describe.date(begins)}"
    if duty.due and duty.action is not None:
        text += f", now: {PROGRAM} {duty.action}"
    return shown, text


def _data(root: RoleFile[Root], duties: dict[str, Duty]) -> dict[str, Any]:
    from margo_supplychain.authoring.holders import known_holders

    known = known_holders(root.signed)
    return {
        "version": root.version,
        "sha256": root.sha256,
        "expires": root.expires,
        "roles": [
            {
                "role": role,
                "needed": found.threshold,
                "keyIds": list(found.keyids),
                "duty": duty_data(duties[role]) if role in duties else None,
            }
            for role, found in root.signed.roles.items()
        ],
        "keys": [
            {
                "keyId": keyid,
                "scheme": key.scheme,
                "holder": known[keyid].to_dict() if keyid in known else {},
            }
            for keyid, key in root.signed.keys.items()
        ],
    }
