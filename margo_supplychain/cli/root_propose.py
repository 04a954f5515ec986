"""`root propose`: the next root of a repository, or the first one, as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from margo_supplychain.cli import root_describe as show
from margo_supplychain.cli.arguments import typed
from margo_supplychain.cli.author import Author, reads
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.options import epilog, missing_setting, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.root_files import typed_place, write_fresh
from margo_supplychain.cli.signing_keys import read_public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from margo_supplychain.authoring.plan import Kind, RootPlan
    from margo_supplychain.authoring.plan_changes import PlanDraft, PlannedKey
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.keyring import Keyring

    _Command = Callable[..., Result]

PLAN_LIMIT: Final = 256 * 1024  # bytes; a test compares
_NONE: Final = "none"
_PAIR_HINT: Final = "nothing was written"


def _changes(command: _Command) -> _Command:
    """Give a command the options that change a plan."""
    options = [
        ("--replace-key", "replaced", "OLD=KEY", "Put KEY in the place of key id OLD."),
        ("--add-key", "added", "ROLE=KEY", "Give a top-level role one more key."),
        ("--remove-key", "removed", "ROLE=ID", "Take a key from a top-level role."),
        ("--threshold", "thresholds", "ROLE=N", "How many keys must sign a role."),
        (
            "--period",
            "periods",
            "ROLE=SPAN",
            "How long its signatures last: root=730d.",
        ),
        ("--signing", "signing", "ROLE=SPAN", "Sign again that long before: root=60d."),
        (
            "--owner",
            "owners",
            "KEY=NAME",
            "Who holds a key: KEY as above, or its id.",
        ),
        (
            "--custody",
            "custody",
            "ROLE=CUSTODY",
            "never-extractable: every key was made in its token; none: as they are.",
        ),
    ]
    for flag, name, metavar, text in reversed(options):
        command = click.option(flag, name, multiple=True, metavar=metavar, help=text)(
            command
        )
    return command


@click.command(
    epilog=epilog(
        examples=[
            "root propose --replace-key 4f1a09c2e77b=b.pub --owner b.pub='holder B'",
            "root propose --plan plan.toml --out root-2.json",
            "root propose",
        ],
        exits=[0, 2, 3, 4, 6],
        follow="root sign root-2.json --key a.key",
    )
)
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    help="All that it shall say (TOML); `root show --as-plan` prints what stands.",
)
@_changes
@click.option("--out", metavar="FILE", help="Where to write it, else root-N.json here.")
@reads
@passphrase_options()
def propose(
    author: Author,
    *,
    plan_file: str | None,
    out: str | None,
    pin: Passphrases,
    **changes: tuple[str, ...],
) -> Result:
    """Propose the next root: other keys, thresholds or periods, for holders to sign.

    KEY is a public key (.pub), a private one or a key URI. Roles are root, targets,
    snapshot and timestamp. Without any option it is renewed as it is. Without a
    repository, --plan makes a first root.
    """
    author = replace(author, pin=pin)
    if plan_file is not None and any(changes.values()):
        raise click.UsageError(
            "--plan says everything: it goes without options that change a plan"
        )
    if not author.place and plan_file is None:
        raise click.UsageError(f"{missing_setting('repo')}; a first root needs --plan")
    with author.keyring() as keyring:
        proposal = _proposal(author, _Keys(keyring), plan_file, changes)
    target = Path(out or f"root-{proposal.version}.json")
    write_fresh(target, proposal.data)
    return Result(
        data=show.proposal_data(proposal, target),
        lines=[
            f"proposed root v{proposal.version}: {target}",
            *show.change(proposal),
            f"next: {PROGRAM} root sign {target}{typed_place()} --key …",
        ],
    )


def _proposal(
    author: Author,
    keys: _Keys,
    plan_file: str | None,
    changes: dict[str, tuple[str, ...]],
) -> RootProposal:
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.cli.describe import now

    if not author.place:
        return RootProposal.first(_read_plan(str(plan_file), keys, None), now=now())
    repository, memory = author.open(), author.memory()
    with author.explained():
        stands = repository.plan(state=memory)
        if plan_file is not None:
            plan = _read_plan(plan_file, keys, stands)
        else:
            plan = _changed(stands, keys, changes)
        _note_publisher(author, stands, plan)
        return repository.propose_root(plan, state=memory)


def _note_publisher(author: Author, stands: RootPlan, plan: RootPlan) -> None:
    """Say which publisher goes on with a key that leaves root (profile small)."""
    if stands.publisher_keys is None:
        return
    left = set(stands.root.keyids) - set(plan.root.keyids)
    kept = sorted(left & set(stands.publisher_keys.keyids))
    if kept:
        author.invocation.note(
            f"key {kept[0][:12]} stays the publisher's: {PROGRAM} publisher rotate "
            f"{stands.publisher} gives it another one"
        )


class _Keys:
    """Keys that are named on the command line or in a plan, each looked at once."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._found: dict[str, PlannedKey] = {}

    def __call__(self, uri: str) -> PlannedKey:
        from margo_supplychain.authoring.plan_changes import PlannedKey

        if uri not in self._found:
            record = read_public(self._keyring, uri)
            is_file = record.uri is None and self._keyring.has_private(uri)
            place = "file" if is_file else None
            self._found[uri] = PlannedKey.of(record, place=place)
        return self._found[uri]

    def id_of(self, text: str) -> str:
        """Return the id of a key that is named as one of root, or by (part of) it."""
        from margo_supplychain.authoring.plan_changes import is_key_id

        if text not in self._found and is_key_id(text):
            return text
        return self(text).key.keyid


def _read_plan(file: str, keys: _Keys, base: RootPlan | None) -> RootPlan:
    from margo_supplychain.authoring.plan_file import parse_plan

    data = read_named(Path(file), limit=PLAN_LIMIT, what="a plan")
    # What a plan names lies beside it, also when it is read from elsewhere.
    folder = Path(file).parent

    def beside(text: str) -> PlannedKey:
        path = folder / text
        return keys(str(path) if ":" not in text else text)

    return parse_plan(data, beside, base=base, what=Path(file).name)


def _changed(
    plan: RootPlan, keys: _Keys, changes: dict[str, tuple[str, ...]]
) -> RootPlan:
    from margo_supplychain.authoring.plan_changes import PlanDraft

    draft = PlanDraft(plan)
    for old, uri in _pairs("--replace-key", changes["replaced"], "OLD=KEY"):
        draft.replace(old, keys(uri))
    for role, uri in _pairs("--add-key", changes["added"], "ROLE=KEY"):
        draft.add(role, keys(uri))
    for role, keyid in _pairs("--remove-key", changes["removed"], "ROLE=ID"):
        draft.remove(role, keyid)
    for role, number in _pairs("--threshold", changes["thresholds"], "ROLE=N"):
        if not number.isascii() or not number.isdecimal() or len(number) > 4:
            raise click.UsageError(f"--threshold {role}={number!r:.40} is no number")
        draft.set_threshold(role, int(number))
    for role, custody in _pairs("--custody", changes["custody"], "ROLE=CUSTODY"):
        draft.set_custody(role, None if custody == _NONE else custody)
    for each in changes["owners"]:
        # A key URI may hold `=`, a name hardly ever does.
        key, _, name = each.rpartition("=")
        if not key or not name:
            raise click.UsageError(f"--owner {each!r:.80} is not KEY=NAME")
        draft.name(keys.id_of(key), name)
    _set_times(draft, changes)
    return draft.plan()


def _set_times(draft: PlanDraft, changes: dict[str, Any]) -> None:
    from margo_supplychain.authoring.plan import check_periods
    from margo_supplychain.formats.times import parse_span

    for flag, name, put in (
        ("--period", "periods", draft.set_period),
        ("--signing", "signing", draft.set_signing),
    ):
        for role, text in _pairs(flag, changes[name], "ROLE=SPAN"):
            kind = cast("Kind", role)
            with typed(_PAIR_HINT):
                span = parse_span(text, what=f"{flag} {role}")
                check_periods({kind: span}, what=name)
            put(kind, span)


def _pairs(flag: str, given: Sequence[str], form: str) -> Iterator[tuple[str, str]]:
    for each in given:
        # Neither key ids nor roles hold `=`; a key URI does.
        left, _, right = each.partition("=")
        if not left or not right:
            raise click.UsageError(f"{flag} {each!r:.80} is not {form}")
        yield left, right
