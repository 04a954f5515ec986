"""`repo check`: a repository or a copy of it, looked at as devices do, and repaired."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import PUBLISHER
from margo_supplychain.cli.author import reads, warn
from margo_supplychain.cli.failures import login_of
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.options import epilog, missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.places import require_place
from margo_supplychain.cli.progress import progress
from margo_supplychain.cli.repo_copy import selection, selects
from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    FormatError,
    InconclusiveError,
    RefusedError,
    ThresholdError,
    VerificationError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.cli.author import Author
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.reports import Report, Step
    from margo_supplychain.verify.trust_store import TrustStore

_WEB: Final = ("https://", "http://")
_FEW: Final = 20  # parts on a screen; JSON has all
# A report has what went wrong as one line each.
_REFUSED: Final = re.compile(r"\Aoci://([^/\s]+)/\S+ answered 40[13]\b")


@click.command(
    epilog=epilog(
        examples=[
            "repo check",
            "repo check oci://mirror.plant:5000/acme/trust --repair --from trust",
            "repo check --repo trust --begin-from 1.root.json",
        ],
        exits=[0, 2, 3, 4],
        follow="repo status --within 14d",
    )
)
@click.argument("where", metavar="[PLACE]", required=False)
@click.option(
    "--repair", "repairs", is_flag=True, help="Put back what is missing or damaged."
)
@click.option(
    "--from",
    "others",
    multiple=True,
    metavar="PLACE",
    help="Who has what is missing, in place of --repo; may be repeated.",
)
@click.option(
    "--begin-from",
    "first_root",
    metavar="FILE",
    help="Begin your memory (--state), for the first time or a lost one anew, from a "
    "root that you trust.",
)
@click.option(
    "--publisher",
    type=PUBLISHER,
    help="With --begin-from: the publisher that you are, if the settings don't say.",
)
@selects
@reads
def check(
    author: Author,
    *,
    where: str | None,
    repairs: bool,
    others: tuple[str, ...],
    first_root: str | None,
    publisher: str | None,
    names: tuple[ReleaseName, ...],
    pin: str | None,
) -> Result:
    """Check everything as devices do, new ones and ones that saw the previous state.

    PLACE is --repo, or a copy of it in a registry, directory, layout or tar. Files are
    hashed, every byte; a registry is asked for each manifest, and whether it has each
    blob.
    """
    if others and not repairs:
        raise click.UsageError("--from goes with --repair")
    if publisher is not None and first_root is None:
        raise click.UsageError("--publisher goes with --begin-from")
    if (where or author.place).startswith(_WEB):
        return _begin_behind_web(author, where or author.place, first_root, publisher)
    at = where or author.open().url
    require_place(at)
    began = None
    if first_root is None:
        own = _own(author, at)
    else:
        began = _Beginning.of(author, first_root, at, publisher)
        own = _Trusted(began.root, _volatile(began.root))
    select = selection(names, pin)
    restored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    report = _look(author, at, own, select)
    if repairs and report.verdict != "verified":
        restored, warnings = _repair(author, at, own, select, others)
        report = _look(author, at, own, select)
    if report.verdict != "verified":
        raise _refusal(report, at)
    if began is not None:
        began.create()
        author.invocation.note(f"began {began.state} from {first_root}")
    rows = [(one.title, _facts(one)) for one in report.steps if one.facts]
    lines = [f"verified {at}: no problem found", *describe.table(rows)]
    if restored:
        lines.append(f"  put back: {describe.counted(len(restored), 'part')}")
        lines += [f"    {one}" for one in restored[:_FEW]]
    return Result(
        data={
            "repository": at,
            "report": report.to_dict(),
            "restored": list(restored),
            "warnings": list(warnings),
        },
        lines=lines,
    )


class _Trusted(NamedTuple):
    """What a repository is believed from.

    Args:
        root: where a fresh device starts.
        store: the author's memory, if there is one.
    """

    root: bytes
    store: TrustStore | None

    def memory(self) -> TrustStore:
        """Return the memory, or one that begins with the root."""
        return self.store or _volatile(self.root)


def _own(author: Author, at: str) -> _Trusted:
    """Return what the author trusts: a copy is no authority about itself."""
    home = author if author.place else author.at(at)
    store = home.memory()
    if author.root is not None:
        return _Trusted(_read_root(author.root), store)
    if store is not None and not author.place:
        return _Trusted(store.load().root, store)
    if not author.place and not Path(at).is_dir():
        raise click.UsageError(
            f"--root FILE is missing: {at} is not asked which keys it shall be "
            "believed by; give a root that you got from somebody you trust, or your "
            "memory (--state)"
        )
    repository = home.open()
    try:
        return _Trusted(repository.root, store)
    except RefusedError:
        if store is None:
            raise
        return _Trusted(store.load().root, store)


def _look(author: Author, at: str, own: _Trusted, select: Selection) -> Report:
    from datetime import UTC

    from margo_supplychain.authoring.checks import check_place
    from margo_supplychain.authoring.content_look import look_at
    from margo_supplychain.transport.opening import open_sink

    mirrors, network = author.invocation.settings.registries
    # Opened to be looked through; nothing is written.
    shelf = open_sink(at, network=network)
    return check_place(
        shelf,
        own.root,
        content=look_at(
            shelf,
            open_repository=lambda url: open_sink(url, network=network),
            mirrored=mirrors.places,
        ),
        store=own.store,
        now=describe.now().astimezone(UTC).replace(microsecond=0),
        select=select,
    )


def _repair(
    author: Author, at: str, own: _Trusted, select: Selection, others: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what was put back, and what could not be."""
    from margo_supplychain.authoring.copying import LONG
    from margo_supplychain.authoring.repairing import repair
    from margo_supplychain.authoring.shelves import open_shelf
    from margo_supplychain.transport.mirrors import MirroredContent
    from margo_supplychain.transport.opening import open_sink, open_source

    mirrors, network = author.invocation.settings.registries
    if not others and author.place and author.place != at:
        others = (author.place,)
    try:
        with (
            progress(author.invocation) as tell,
            open_shelf(at, network=network) as shelf,
        ):
            done = repair(
                shelf,
                [open_source(one, network=network) for one in others],
                trust=own.memory(),
                content=MirroredContent(mirrors, network=network, trust=at),
                select=select,
                open_repository=lambda url: open_sink(url, network=network),
                mirrored=mirrors.places,
                control=LONG._replace(progress=tell),
            )
    except (VerificationError, FetchError) as why:
        # What is wrong is said by the second look.
        author.invocation.note(f"nothing was put back: {why}")
        return (), (f"nothing was put back: {why}",)
    warn(author.invocation, done.warnings)
    return done.restored, done.warnings


def _facts(step: Step) -> str:
    return ", ".join(f"{name} {value}" for name, value in step.facts.items())


class _Beginning(NamedTuple):
    """What a new memory is made from."""

    state: Path
    root: bytes
    publisher: str

    @classmethod
    def of(
        cls, author: Author, file: str, at: str, publisher: str | None
    ) -> _Beginning:
        from margo_supplychain.authoring.repository import Repository

        if author.state is None:
            raise click.UsageError("--begin-from needs --state: where it shall be")
        root = _read_root(Path(file))
        opens = Repository.view if at.startswith(_WEB) else Repository.open
        opened = opens(at, root=root, network=author.network)
        if publisher is not None and opened.publisher not in (None, publisher):
            raise click.UsageError(
                f"--publisher is {publisher}, and {at} is of {opened.publisher}"
            )
        publisher = publisher or opened.publisher
        if publisher is None:
            # The profile standard has several; this one is the author.
            setting = author.invocation.settings.find("publisher")
            if setting is None:
                raise click.UsageError(missing_setting("publisher"))
            publisher = setting.values[0]
        return cls(author.state, root, publisher)

    def create(self) -> None:
        """Make the memory; one that is there is never replaced."""
        from margo_supplychain.verify.trust_store import TrustStore

        publishers = frozenset({self.publisher})
        TrustStore.create(self.state, root=self.root, publishers=publishers)


def _begin_behind_web(
    author: Author, at: str, first_root: str | None, publisher: str | None
) -> Result:
    """Begin the memory of a repository that others run, and that is only read here.

    Raises:
        RefusedError: no memory shall be begun: there is nothing else to be done here.
        VerificationError: it is not what the root says, or may be an old copy.
    """
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.formats.reports import Report, Step

    if first_root is None:
        raise RefusedError(
            f"{at} is behind a web server, which can't be looked through",
            hint="its operator checks it where it lies; you begin your memory of it: "
            "margo-supplychain repo check --begin-from FILE",
        )
    began = _Beginning.of(author, first_root, at, publisher)
    view = Repository.view(at, root=began.root, network=author.network)
    start = view.handing()
    state = start.load()
    began.create()
    author.invocation.note(f"began {began.state} from {first_root}")
    facts = {
        "root": state.root.version,
        "timestamp": state.timestamp.version,
        "snapshot": state.snapshot.version,
        "targets": state.version("targets"),
    }
    step = Step(1, "trust metadata, as a fresh device", "passed", facts)
    report = Report(f"repository {at}", "verified", "verified", start.now, (step,))
    return Result(
        data={
            "repository": at,
            "report": report.to_dict(),
            "restored": [],
            "warnings": [],
        },
        lines=[
            f"verified {at}: trust metadata, as far as a web server shows it",
            *describe.table([(step.title, _facts(step))]),
        ],
    )


def _read_root(path: Path) -> bytes:
    """Return a root that somebody named to begin with.

    Raises:
        FormatError: no such file, or no root.
        ThresholdError: its own keys have not all signed.
    """
    from margo_supplychain.verify.limits import Limits

    data = read_named(path, limit=Limits().root, what="a root")
    try:
        _volatile(data)
    except ThresholdError as why:
        why.hint = (
            f"{path} is a proposal, or damaged: take a root that was adopted, "
            "N.root.json of the repository, from somebody you trust"
        )
        raise
    except VerificationError as why:
        raise FormatError(
            f"{path} is not a root to begin with: {why}",
            where=str(path),
            hint="get it again, from somebody you trust",
        ) from why
    return data


def _volatile(root: bytes) -> TrustStore:
    from margo_supplychain.verify.trust_store import TrustStore

    return TrustStore.unsafe_without_memory(root=root)


def _login(report: Report) -> str | None:
    """Say what helps if somebody was not let in."""
    for one in report.violations:
        refused = _REFUSED.search(one.text)
        about = None if refused is None else login_of(refused[1])
        if refused is not None and about is not None:
            return f"{about}: run `docker login {refused[1]}`"
    return None


def _refusal(report: Report, place: str) -> SupplyChainError:
    found = describe.counted(len(report.violations), "problem")
    hint: str | None
    if report.verdict == "rejected":
        hint = "devices refuse what is listed; do not publish from here before you "
        hint += "know why. What is missing comes back with --repair"
        if all(one.rule == ExpiredError.code for one in report.violations):
            hint = "devices refuse what has expired: sign it again with "
            hint += "`margo-supplychain repo refresh`; `repo status` says who must"
        error: VerificationError | InconclusiveError = VerificationError(
            f"{place} has {found}", hint=hint
        )
    else:
        hint = _login(report)
        error = InconclusiveError(f"{place} could not be checked: {found}", hint=hint)
    error.report = report
    return error
