"""`margo-supplychain app`: who releases an application, and what is demanded of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.app_proof_options import proof_options
from margo_supplychain.cli.arguments import (
    ARTIFACT,
    ARTIFACT_OR_NONE,
    RELEASE_NAME,
    VERSION,
    VERSION_OR_NONE,
)
from margo_supplychain.cli.author import Author, edit_data, reads, signed_line, signs
from margo_supplychain.cli.confirming import confirm, yes_option
from margo_supplychain.cli.handing import submits
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_status import who
from margo_supplychain.cli.role_keys import each_once, owner_option, role_keys
from margo_supplychain.cli.root_describe import tell
from margo_supplychain.cli.signing_keys import threshold_of

if TYPE_CHECKING:
    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import Provenance
    from margo_supplychain.formats.versions import Version

_LAYOUT = (
    "app policy acme/pump-monitor --provenance required --layout layout.json "
    "--serves '^1.0'"
)
_KEYS = (*signing_keys.PUBLISHER, *signing_keys.ONLINE)


@click.group()
def app() -> None:
    """Say who releases an application, and what is demanded of its releases."""


_provenance_option = click.option(
    "--provenance",
    type=click.Choice(["none", "required"]),
    help="Whether each release must prove how it was made.",
)


@app.command(
    epilog=epilog(
        examples=[
            "app add acme/pump-monitor --release-key ci.pub",
            "app add acme/pump-monitor --release-key ci.pub --minimum-version 1.0.0",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="release build pump-monitor --output dist",
    )
)
@click.argument("name", type=RELEASE_NAME, metavar="PUBLISHER/NAME")
@click.option(
    "--release-key",
    "uris",
    multiple=True,
    callback=each_once,
    metavar="KEY.pub",
    help="Public key that signs its releases (of a private key the .pub beside it: "
    "compare the key id that is printed); may be repeated.",
)
@click.option(
    "--release-threshold",
    "threshold",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of them must sign.",
)
@_provenance_option
@click.option("--minimum-version", type=VERSION, help="Nothing below is current.")
@owner_option
@signs
@submits
def add(
    author: Author,
    *,
    name: ReleaseName,
    uris: tuple[str, ...],
    threshold: int | None,
    provenance: Provenance | None,
    minimum_version: Version | None,
    owners: tuple[str, ...],
) -> Result:
    """Delegate an application to its release key, with the publisher's offline key."""
    from margo_supplychain.formats.publisher_policy import PublisherPolicy

    with author.look() as known:  # before anybody types a passphrase
        known.require_publisher(name)
    with author.keyring() as keyring:
        given = role_keys(keyring, uris, owners, public=True)
    if known.is_simple:
        needed = 1
    elif not given.keys:
        raise click.UsageError("--release-key is missing: who signs its releases?")
    else:
        needed = threshold_of("--release-threshold", threshold, len(given.keys))
    # An application that was removed, and is added again, keeps its epoch.
    before = known.policy(name)
    policy = PublisherPolicy(
        epoch=1 if before is None else before.epoch,
        provenance=provenance or "none",
        minimum_version=minimum_version,
    )
    with author.edit(*_KEYS) as edit:
        changed = edit.add_application(
            name, given.keys, threshold=needed, policy=policy, holders=given.holders
        )
    signers = ", ".join(key.keyid[:12] for key in given.keys) or "the key of targets"
    if needed > 1:
        signers = f"{needed} of {signers}"
    verb = "added" if changed else "unchanged"
    lines = [f"{verb} {name}: releases are signed by {signers}"]
    follow = "release build DIR --output dist"
    default = author.invocation.settings.find("publisher")
    if default is None or default.values != (name.publisher,):
        follow += f" --publisher {name.publisher}"
    return _result(edit, name, changed=changed, lines=lines, follow=follow)


@app.command(
    epilog=epilog(
        examples=[
            "app policy acme/pump-monitor",
            "app policy acme/pump-monitor --minimum-version 1.2.1",
            "app policy acme/pump-monitor --downgrade-to 1.1.0",
            _LAYOUT,
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="app show acme/pump-monitor",
    )
)
@click.argument("name", type=RELEASE_NAME, metavar="PUBLISHER/NAME")
@click.option(
    "--epoch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Raise it after a stolen release key, with a higher --minimum-version.",
)
@click.option(
    "--minimum-version", type=VERSION_OR_NONE, help="Nothing below is current."
)
@click.option(
    "--reinstate",
    type=ARTIFACT,
    multiple=True,
    help="Void a release's withdrawals; may be repeated.",
)
@click.option(
    "--downgrade-to",
    type=ARTIFACT_OR_NONE,
    multiple=True,
    help="Let devices go back to this release: replaces those named before.",
)
@_provenance_option
@proof_options
@yes_option("With --layout: list it without asking, you have read it.")
@signs
@submits
def policy(author: Author, *, name: ReleaseName, yes: bool, **options: Any) -> Result:
    """Change what the publisher demands of an application; show it without options."""
    from margo_supplychain.cli.app_policy import PolicyChanges, require_policy

    changes = PolicyChanges(**options)
    changes.proof.check()
    if not changes.any:
        with author.look() as edit:
            require_policy(edit, name)
        return _result(edit, name, changed=False, lines=[str(name)], follow=None)
    layout = changes.proof.read_layout()
    if layout is not None:
        from margo_supplychain.cli.layout_describe import words

        # Whoever signed it knew of no application: this is what its releases must do.
        tell(author.invocation, words(layout[1]), yes=yes)
        confirm(f"demand this of {name} {changes.proof.serves}?", yes=yes)
    with author.keyring() as keyring:
        given = changes.proof.read_keys(keyring)
        if layout is not None:
            given = given._replace(layout=layout[0])
        with author.edit_with(keyring, *_KEYS) as edit:
            changed = changes.apply(edit, name, given)
    verb = "changed" if changed else "unchanged"
    lines = [f"{verb} the policy of {name}"]
    follow = f"app show {name}"
    return _result(edit, name, changed=changed, lines=lines, follow=follow)


@app.command(
    epilog=epilog(
        examples=[
            "app show acme/pump-monitor",
            "--format json app show acme/pump-monitor",
        ],
        exits=[0, 2, 3, 4],
        follow="release show acme/pump-monitor",
    )
)
@click.argument("name", type=RELEASE_NAME, metavar="PUBLISHER/NAME")
@reads
def show(author: Author, *, name: ReleaseName) -> Result:
    """Show an application: its policy, its role and how many releases it has."""
    from margo_supplychain.cli.app_policy import (
        layout_ends,
        policy_data,
        policy_lines,
        require_policy,
    )

    with author.look() as edit:
        found = require_policy(edit, name)
        releases = edit.releases(name)
        deciding = edit.deciding_role(name)
        ends = layout_ends(edit, name, found)
        named = edit.named_releases(name)
    duties = author.open().status(within=timedelta(0), state=author.memory())
    role = next(one for one in duties if one.role == deciding)
    withdrawn = [one for one in releases.values() if one.withdrawn is not None]
    newest = next(iter(releases), None)
    count = describe.counted(len(releases), "release")
    if newest is not None:
        count += f", newest {newest}"
    if withdrawn:
        count += f", {len(withdrawn)} withdrawn"
    rows = [
        *policy_lines(found, releases, ends, named=named),
        ("releases", count),
        ("role", _role(role)),
    ]
    return Result(
        data={
            "name": str(name),
            "policy": policy_data(found),
            "layouts": [
                {"number": one.number, "expires": ends[one.number]}
                for one in found.layouts
            ],
            "releases": {
                "count": len(releases),
                "withdrawn": len(withdrawn),
                "newest": None if newest is None else str(newest),
            },
            "role": {
                "name": role.role,
                "version": role.version,
                "expires": role.expires,
                "threshold": role.needed,
                "keyIds": list(role.keyids),
                "problem": role.problem,
            },
        },
        lines=[
            str(name),
            *describe.table(rows),
            f"next: margo-supplychain release show {name}",
        ],
    )


def _role(duty: Duty) -> str:
    version = "not signed yet" if duty.version is None else f"v{duty.version}"
    text = f"{duty.role} {version} by {who(duty)}"
    if duty.expires is not None:
        distance = describe.distance(duty.expires, at=describe.now())
        text += f", until {describe.date(duty.expires)}, {distance}"
    return text if duty.problem is None else f"{text}: {duty.problem}"


def _result(
    edit: Edit,
    name: ReleaseName,
    *,
    changed: bool,
    lines: list[str],
    follow: str | None,
) -> Result:
    from margo_supplychain.cli.app_policy import (
        policy_data,
        policy_lines,
        require_policy,
    )

    found = require_policy(edit, name)
    rows = policy_lines(found, edit.releases(name), named=edit.named_releases(name))
    if follow is not None:
        rows.append(("signed", signed_line(edit)))
    lines += describe.table(rows)
    if follow is not None:
        lines.append(f"next: margo-supplychain {follow}")
    return Result(
        data={
            "name": str(name),
            "changed": changed,
            "policy": policy_data(found),
            **edit_data(edit),
        },
        lines=lines,
    )
