"""`repo init`: a new repository, its author's memory, and the defaults of the place.

    margo-supplychain.toml       beside the repository: later commands need no options
    .margo-supplychain/state     the author's memory, never inside what is served
    DIR/                         the repository, for any web server

Nothing is made before all of it can be: what is in the way is found first.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import PUBLISHER, typed
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_init_keys import (
    GivenKeys,
    name_owners,
    plan_of,
    read_first_root,
    signed_plan,
    typed_keys,
)
from margo_supplychain.cli.role_keys import each_once
from margo_supplychain.cli.settings import FILE_NAME, parse, render
from margo_supplychain.cli.signing_keys import (
    as_setting,
    keyring_of,
    threshold_of,
)
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.keyring import Keyring

    _Option = Callable[[Callable[..., Result]], Callable[..., Result]]

# Not imported from `authoring`: `--help` must stay light. A test compares.
PROFILES: Final = ("standard", "small", "simple")
STATE: Final = Path(".margo-supplychain") / "state"
_SMALL: Final = (
    "--profile small --publisher acme --offline-key offline.key --online-key ci.key"
)
_STANDARD: Final = (
    "--profile standard --publisher acme --root-key a.key --root-key b.key "
    "--root-key c.pub --root-threshold 2 --targets-key t.key --publisher-key p.key "
    "--online-key ci.key"
)
_SIGNED: Final = (
    "--profile standard --publisher acme --signed-root root-1.json --targets-key t.key "
    "--publisher-key acme.pub --online-key ci.key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where everything goes.

    Args:
        directory: the repository, as it was typed.
        base: the directory beside it, absolute.
        state: the author's memory.
    """

    directory: Path
    base: Path
    state: Path

    @property
    def settings(self) -> Path:
        return self.base / FILE_NAME

    @classmethod
    def of(cls, directory: Path, state: str | None) -> _Place:
        absolute = directory.resolve()
        base = absolute.parent
        place = cls(
            directory=directory,
            base=base,
            state=Path(state).resolve() if state else base / STATE,
        )
        if place.state.is_relative_to(absolute):
            raise click.UsageError(
                f"--state {state} lies inside {directory}, which is served to everybody"
            )
        if os.path.lexists(place.settings):
            raise RefusedError(
                f"{place.show(place.settings)} exists: it has the defaults of another "
                "repository",
                hint="make this one in a directory of its own; nothing was changed",
            )
        if os.path.lexists(place.state / "memory-a"):
            raise RefusedError(
                f"{place.show(place.state)} holds a memory already",
                hint="name another directory with --state; nothing was changed",
            )
        return place

    def show(self, path: Path) -> str:
        """Return a path as short as it can be said here."""
        here = Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def beside(self, text: str) -> str:
        """Return a path for the settings file: relative, where it lies below."""
        path = Path(text).parent.resolve() / Path(text).name
        if ":" not in path.name and path.is_relative_to(self.base):
            return str(path.relative_to(self.base))
        return str(path)


def _key_option(name: str, text: str) -> _Option:
    return click.option(
        f"--{name}", multiple=True, callback=each_once, metavar="KEY", help=text
    )


def _threshold_option(name: str, text: str) -> _Option:
    return click.option(f"--{name}", type=click.IntRange(min=1), metavar="N", help=text)


@click.command(
    epilog=epilog(
        examples=[
            f"repo init trust {_SMALL}",
            f"repo init trust {_STANDARD}",
            f"repo init trust {_SIGNED}",
        ],
        exits=[0, 2, 4, 5, 6],
        follow="app add acme/pump-monitor --release-key ci.pub",
    )
)
@click.argument("directory", metavar="DIR")
@click.option(
    "--profile",
    required=True,
    type=click.Choice(PROFILES),
    help="standard: a key for each role; small: one offline and one online key; "
    "simple: no delegations, no provenance.",
)
@click.option("--publisher", required=True, type=PUBLISHER, help="Its publisher.")
@_key_option("offline-key", "root, targets and publisher (small, simple).")
@_key_option("root-key", "root (standard); may be repeated.")
@_threshold_option("root-threshold", "How many root keys must sign.")
@_key_option("targets-key", "targets (standard); may be repeated.")
@_threshold_option("targets-threshold", "How many targets keys must sign.")
@_key_option("publisher-key", "The publisher's (standard); may be repeated.")
@_threshold_option("publisher-threshold", "How many of the publisher's must sign.")
@_key_option("online-key", "snapshot and timestamp.")
@click.option(
    "--owner",
    "owners",
    multiple=True,
    metavar="KEY=NAME",
    help="Who holds a key, for `repo status`; may be repeated.",
)
@click.option(
    "--signed-root",
    metavar="FILE",
    help="The first root, if its holders signed it apart (`root propose --plan`): it "
    "says keys and thresholds.",
)
@click.option("--state", metavar="DIR", help=f"Your memory of it, else {STATE} beside.")
@passphrase_options()
@pass_invocation
def init(
    invocation: Invocation,
    /,
    directory: str,
    *,
    profile: str,
    publisher: str,
    owners: tuple[str, ...],
    signed_root: str | None,
    state: str | None,
    pin: Passphrases,
    **options: Any,
) -> Result:
    """Make a trust repository in DIR, a new directory.

    KEY is a private key, which signs, or a public one (.pub), a spare: private keys at
    hand must meet the threshold. Not those of the publisher in the profile standard,
    who may hold them elsewhere and hand in what they sign.
    """
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.storage import durable
    from margo_supplychain.verify.trust_store import TrustStore

    given = typed_keys(profile, options, is_signed=signed_root is not None)
    keys = GivenKeys(typed=given)
    thresholds = {
        name: threshold_of(
            f"--{name}-threshold",
            options[f"{name}_threshold"],
            len(given[f"{name}-key"]),
        )
        for name in (
            ("publisher",) if signed_root else ("root", "targets", "publisher")
        )
        if profile == "standard"
    }
    place = _Place.of(Path(directory), state)
    root = None if signed_root is None else read_first_root(Path(signed_root))
    with keyring_of(invocation, pin) as keyring:
        settings = _settings(place, publisher, keys, keyring)
        keys.open(keyring)
        name_owners(owners, keys, is_signed=root is not None)
        plan = (
            plan_of(profile, publisher, keys, thresholds)
            if root is None
            else signed_plan(profile, publisher, keys, root)
        )
        repository = Repository.create(
            place.directory, plan=plan, keys=keys.signers, root=root
        )
        memory = TrustStore.create(
            place.state, root=repository.root, publishers=frozenset({publisher})
        )
        with repository.edit(keys.signers, state=memory) as edit:
            if profile == "standard":
                edit.add_publisher(
                    publisher,
                    keys.keys["publisher-key"],
                    threshold=thresholds["publisher"],
                    holders=keys.holders("publisher-key"),
                )
    durable.write_new_file(place.settings, settings)
    return _result(place, repository, publisher, keys)


def _settings(
    place: _Place, publisher: str, keys: GivenKeys, keyring: Keyring
) -> bytes:
    """Return the settings file; refuse, before anything is made, what it can't say."""
    values: dict[str, str | list[str]] = {
        "repo": place.beside(str(place.directory)),
        "state": place.beside(str(place.state)),
        "publisher": publisher,
    }
    for option, uris in keys.typed.items():
        # A public key signs nothing: its holder has a place of their own.
        private = [
            as_setting(uri, place.beside) for uri in uris if keyring.has_private(uri)
        ]
        if private:
            values[option] = private[0] if len(private) == 1 else private
    with typed(f"{FILE_NAME} must name it: take another name; nothing was changed"):
        data = render(values)
        parse(data, what=FILE_NAME)
    return data


def _result(
    place: _Place, repository: Repository, publisher: str, keys: GivenKeys
) -> Result:
    duties = repository.status(within=timedelta(0))
    root = next(one for one in duties if one.role == "root")
    root_file = place.directory / "metadata" / f"{root.version}.root.json"
    sha256 = hashlib.sha256(repository.root).hexdigest()
    rows = _rows(duties, keys)
    lines = [f"created {place.directory}: root v{root.version}, publisher {publisher}"]
    lines += describe.table(
        (row["label"], row["keyId"][:12], ", ".join(row["roles"]), _renewal(row))
        for row in rows
    )
    lines += [
        f"  {one.role} needs {one.needed} of {len(one.keyids)} keys"
        for one in duties
        if one.needed > 1
    ]
    waiting = any(one.role == publisher and one.version is None for one in duties)
    if waiting:
        lines.append(
            f"  {publisher} is signed with its first submission: its keys are not here"
        )
    release_key = "" if repository.profile == "simple" else " --release-key ci.pub"
    lines += [
        f"devices trust it by {root_file}  sha256 {sha256}",
        "next: margo-supplychain "
        + ("repo status" if waiting else f"app add {publisher}/NAME{release_key}"),
    ]
    return Result(
        data={
            "directory": str(place.directory),
            "profile": repository.profile,
            "publisher": publisher,
            "rootVersion": root.version,
            "rootFile": str(root_file),
            "rootSha256": sha256,
            "settingsFile": str(place.settings),
            "state": str(place.state),
            "keys": rows,
        },
        lines=lines,
    )


def _renewal(row: Mapping[str, Any]) -> str:
    if row["expires"] is None:
        return "not signed yet"
    verb = "refresh by" if row["label"] == "online" else "sign again by"
    return f"{verb} {describe.date(row['expires'])}"


def _rows(duties: Sequence[Duty], keys: GivenKeys) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for duty in duties:
        for keyid in duty.keyids:
            row = rows.setdefault(
                keyid,
                {
                    "label": keys.label(keyid, duty.role),
                    "keyId": keyid,
                    "roles": [],
                    "expires": None,
                },
            )
            row["roles"].append(duty.role)
            known = [one for one in (row["expires"], duty.expires) if one is not None]
            row["expires"] = min(known, default=None)
    return list(rows.values())
