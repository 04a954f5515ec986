"""Which role decides an application: exactly one, at the end of one chain.

`targets` → `<publisher>` → `<publisher>.<name>`, by these names, terminating, with
exactly these paths (docs/explanation/trust-model.md). Anything else that could match
the name, a second delegation, hash bins, a role that lists releases of another, makes
that one application refused as ambiguous; others live on. In a repository of the
profile `simple`, `targets` has no delegations and is the offline and the deciding role.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from margo_supplychain.errors import AmbiguousRoleError, UnknownTargetError
from margo_supplychain.formats.names import application_patterns, publisher_patterns

if TYPE_CHECKING:
    from tuf.api.metadata import DelegatedRole, Targets

    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.workflow import Trusted

_KINDS: Final = ("releases", "layouts", "policies")


class Chain(NamedTuple):
    """The trusted roles that speak for one application.

    Args:
        profile: `simple`, or `delegated` for the profiles standard and small.
        offline: the role whose bytes hold policies and layouts.
        deciding: the role whose list is the list of releases.
        roles: all of them, from `targets` down.
    """

    profile: Literal["delegated", "simple"]
    offline: Trusted[Targets]
    deciding: Trusted[Targets]
    roles: tuple[Trusted[Targets], ...]


def follow(walk: Walk, name: ReleaseName) -> Chain:
    """Follow the chain to the one role that decides `name`.

    Raises:
        UnknownTargetError: no such publisher or application here.
        AmbiguousRoleError: something else could match the name.
    """
    targets = walk.workflow.roles["targets"]
    # Where nothing is listed either, the last publisher was removed, or none came yet.
    if _has_no_delegations(targets.signed) and targets.signed.targets:
        return Chain(
            profile="simple", offline=targets, deciding=targets, roles=(targets,)
        )
    # check 1.70: a release has one list; `targets` signs none beside its delegations
    _refuse_own_entries(targets, name, _KINDS)
    # check 1.71: the publisher is the only delegation that could match, exactly as ours
    _require_only(targets, name, name.publisher, publisher_patterns(name.publisher))
    publisher = walk.role(name.publisher, "targets")
    # check 1.72: nor does a publisher role list releases itself
    _refuse_own_entries(publisher, name, ("releases",))
    # check 1.73: the application's role is the only one that could match
    _require_only(publisher, name, name.role, application_patterns(name))
    application = walk.role(name.role, name.publisher)
    # check 1.74: the chain ends here
    if not _has_no_delegations(application.signed):
        raise AmbiguousRoleError(
            f"{application.file.label} delegates further, so {name} has no one role",
            name=str(name),
            roles=(application.file.role,),
        )
    return Chain(
        profile="delegated",
        offline=publisher,
        deciding=application,
        roles=(targets, publisher, application),
    )


def _has_no_delegations(signed: Targets) -> bool:
    delegations = signed.delegations
    return delegations is None or (
        not delegations.roles and delegations.succinct_roles is None
    )


def _refuse_own_entries(
    role: Trusted[Targets], name: ReleaseName, kinds: tuple[str, ...]
) -> None:
    prefixes = tuple(f"{name.publisher}/{kind}/{name.name}/" for kind in kinds)
    for path in role.signed.targets:
        if path.startswith(prefixes):
            raise AmbiguousRoleError(
                f"{role.file.label} lists {path} itself, beside its delegations",
                name=str(name),
                roles=(role.file.role,),
            )


def _require_only(
    role: Trusted[Targets], name: ReleaseName, expected: str, paths: tuple[str, ...]
) -> None:
    delegations = role.signed.delegations
    if delegations is None:
        raise _unknown(role, name)
    if delegations.succinct_roles is not None:
        raise AmbiguousRoleError(
            f"{role.file.label} delegates to hash bins, which match every name",
            name=str(name),
            roles=(delegations.succinct_roles.name_prefix,),
        )
    found = [
        one for one in (delegations.roles or {}).values() if could_match(one, name)
    ]
    if not found:
        raise _unknown(role, name)
    only = found[0]
    if (
        len(found) > 1
        or only.name != expected
        or not only.terminating
        or only.paths is None
        or sorted(only.paths) != sorted(paths)
    ):
        raise AmbiguousRoleError(
            f"{role.file.label} delegates {name} in another way than to {expected} "
            f"alone, terminating, for {', '.join(paths)}",
            name=str(name),
            roles=tuple(one.name for one in found),
        )


def _unknown(role: Trusted[Targets], name: ReleaseName) -> UnknownTargetError:
    """Return the error of a name that is mistyped, or was removed: both look alike."""
    removed = f"{name.publisher} has removed it"
    if role.file.role != name.publisher:
        removed = f"the repository's operator has removed {name.publisher}"
    return UnknownTargetError(
        f"{role.file.label} delegates to nobody for {name}",
        name=str(name),
        hint=f"check the name; if it was found here before, {removed}: ask them",
    )


def could_match(role: DelegatedRole, name: ReleaseName) -> bool:
    """Say whether a delegation could match any release, layout or policy of `name`.

    Hash prefixes always could; so could any pattern with four steps whose first three
    match, whatever the last one says (TUF 4.5: globs never cross a slash).
    """
    if role.paths is None:
        return True
    for pattern in role.paths:
        steps = pattern.split("/")
        if (
            len(steps) == 4
            # The name first: it tells a thousand applications of a publisher apart.
            and _step_matches(name.name, steps[2])
            and _step_matches(name.publisher, steps[0])
            and any(_step_matches(kind, steps[1]) for kind in _KINDS)
        ):
            return True
    return False


def _step_matches(text: str, pattern: str) -> bool:
    if "*" not in pattern and "?" not in pattern and "[" not in pattern:
        return text == pattern  # compiling a thousand globs would cost a tenth second
    return pattern == "*" or fnmatchcase(text, pattern)
