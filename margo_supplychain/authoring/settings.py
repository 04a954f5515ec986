"""What an author likes to remember of a repository: its profile and its publisher.

`authoring/settings.json` beside `metadata/` is a convenience and never trusted, since
it lies where anybody may write who serves the repository. Nothing that is signed
depends on it: how long signatures last stands in root (`x-periods`, when it is not the
default), who holds keys beside them (`x-holders`), and the profile shows in the
verified delegations (`verified_settings`).

Example:
    >>> settings = Settings(profile="small", publisher="acme")
    >>> Settings.parse(settings.to_bytes()) == settings
    True
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self, cast

from margo_supplychain.authoring.plan import (
    DEFAULT_PERIODS,
    PROFILES,
    check_periods,
)
from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.fields import Fields, check_format
from margo_supplychain.formats.names import publisher_name
from margo_supplychain.formats.times import parse_span
from margo_supplychain.storage.durable import make_directory, read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.plan import Kind, Profile, RootPlan
    from margo_supplychain.authoring.state import State

FORMAT: Final = 1
DIRECTORY: Final = "authoring"
FILE_NAME: Final = "settings.json"
LIMIT: Final = 4 << 20  # bytes
PERIODS: Final = "x-periods"
"""A field of root: periods other than the default, by kind of role."""
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The content of `authoring/settings.json`, and the periods that root signs.

    Args:
        profile: see docs/explanation/trust-model.md.
        publisher: the one publisher of the profiles small and simple.
        periods: how long signatures last, by kind of role; the rest as by default.
    """

    profile: Profile
    publisher: str | None = None
    periods: Mapping[Kind, timedelta] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: RootPlan) -> Self:
        """Return the settings of a plan."""
        return cls(
            profile=plan.profile,
            publisher=plan.publisher,
            periods=dict(plan.periods),
        )

    def period(self, kind: Kind) -> timedelta:
        """Return how long a signature of a kind of role lasts."""
        return self.periods.get(kind, DEFAULT_PERIODS[kind])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the file.

        Raises:
            MetadataFormatError: an unknown field, a wrong type or value.
        """
        what = f"{DIRECTORY}/{FILE_NAME}"
        fields = Fields(strict_json.parse(data, what=what, limit=LIMIT), what=what)
        check_format(fields, FORMAT)
        # What version 0 remembered here is signed since (`x-holders`).
        fields.has("owners")
        settings = cls(
            profile=fields.parsed("profile", profile_of),
            publisher=fields.optional("publisher", publisher_name),
        )
        fields.done()
        return settings

    def to_bytes(self) -> bytes:
        """Return the file, without the periods; the same settings, the same bytes."""
        value: dict[str, Any] = {"format": FORMAT, "profile": self.profile}
        if self.publisher is not None:
            value["publisher"] = self.publisher
        return strict_json.canonical(value)


def read_settings(directory: Path) -> Settings | None:
    """Read a repository's settings; None if it has none.

    Raises:
        MetadataFormatError: the file is no settings file.
        StorageError: it can't be read.
    """
    path = directory / DIRECTORY / FILE_NAME
    try:
        return Settings.parse(read_file(path, limit=LIMIT))
    except FileNotFoundError:
        return None


def write_settings(directory: Path, settings: Settings) -> None:
    """Write a repository's settings.

    Raises:
        StorageError: they can't be written.
    """
    make_directory(directory / DIRECTORY)
    write_file(directory / DIRECTORY / FILE_NAME, settings.to_bytes())


def periods_field(periods: Mapping[Kind, timedelta]) -> dict[str, Any]:
    """Return the fields of a root that sign these periods; none for the default."""
    given = {kind: format_period(one) for kind, one in periods.items()}
    return {PERIODS: given} if given else {}


def signed_periods(root: Root) -> Mapping[Kind, timedelta]:
    """Return the periods that a verified root signs.

    Raises:
        MetadataFormatError: the field is there, and not what `periods_field` gives.
    """
    value = root.unrecognized_fields.get(PERIODS)
    if value is None:
        return {}
    fields = Fields({PERIODS: value}, what="root").object(PERIODS)
    periods = {
        cast("Kind", kind): fields.parsed(kind, parse_period) for kind in fields.value
    }
    check_periods(periods)
    return periods


def verified_settings(settings: Settings, state: State) -> Settings:
    """Return settings as verified metadata has them; `settings` fill the gaps.

    One key for root, targets and the only publisher is the profile small. Whether a
    repository whose keys have changed since is still called small, and what one is
    that has signed nothing yet comes from the file.
    """
    targets = state.walk.workflow.roles["targets"].signed
    roles = None if targets.delegations is None else targets.delegations.roles
    publishers = signed_publishers(state)
    profile = settings.profile
    if not roles and targets.targets:
        profile = "simple"
    elif roles and _is_small(state):
        profile = "small"
    elif roles and (profile == "simple" or len(roles) > 1):
        profile = "standard"
    publisher = settings.publisher
    if publishers:
        known = len(publishers) == 1 and profile != "standard"
        publisher = publishers[0] if known else None
    return replace(
        settings,
        profile=profile,
        publisher=publisher,
        periods=signed_periods(state.root.signed),
    )


def signed_publishers(state: State) -> tuple[str, ...]:
    """Return whom verified metadata speaks for; none before anything is signed."""
    targets = state.walk.workflow.roles["targets"].signed
    roles = None if targets.delegations is None else targets.delegations.roles
    return tuple(roles or ()) or tuple(
        dict.fromkeys(path.partition("/")[0] for path in targets.targets)
    )


def _is_small(state: State) -> bool:
    """Say whether one offline key signs all that no machine does."""
    root = state.root.signed
    delegations = state.walk.workflow.roles["targets"].signed.delegations
    roles = {} if delegations is None else delegations.roles or {}
    offline = [root.roles["root"], root.roles["targets"], *roles.values()]
    same = {tuple(one.keyids) for one in offline}
    return len(roles) == 1 and len(same) == 1 and len(offline[0].keyids) == 1


def profile_of(text: str) -> Profile:
    """Return the profile of that name.

    Raises:
        FormatError: there is none.
    """
    for profile in PROFILES:
        if profile == text:
            return profile
    raise FormatError(f"{text[:40]!r} is none of {', '.join(PROFILES)}")


def parse_period(text: str) -> timedelta:
    """Parse a period as root signs it, such as `36h`.

    Raises:
        MetadataFormatError: it is none.
    """
    return parse_span(text, what="period", error=MetadataFormatError)


def format_period(period: timedelta) -> str:
    """Return a period as root signs it: in days, else in whole hours."""
    hours = max(1, round(period / _HOUR))
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"
