"""What an operator takes of his own role `targets`, signed by its holders apart.

It delegates to publishers, by their names and exactly so, and lists nothing itself.
Whether devices still follow every application is judged afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring import acceptance_rules
from margo_supplychain.authoring.delegator_fields import removed_roles, returns
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.errors import FormatError, RefusedError
from margo_supplychain.formats.names import publisher_name, publisher_patterns

if TYPE_CHECKING:
    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.formats.tuf_metadata import RoleFile


def judge_targets(before: Prospect, file: RoleFile[Targets]) -> list[str]:
    """Judge a new file of `targets`; return what the operator should know.

    Args:
        before: how the repository stands.
        file: signed by a threshold of the keys that root names.

    Raises:
        RefusedError: a rule is broken.
        FetchError: a file can't be read.
    """
    what, new = file.label, file.signed
    if before.settings.profile == "simple":
        raise RefusedError(
            "a repository of the profile simple takes no submission: its role targets "
            "signs everything itself",
            hint="publish in the repository itself",
        )
    old = before.standing("targets")
    acceptance_rules.require_plain_delegations(what, new)
    warnings = acceptance_rules.require_remembered(what, old, new)
    if new.targets:
        raise RefusedError(f"{what} lists {min(new.targets)[:240]!r} itself")
    roles = acceptance_rules.delegated(new)
    removed = frozenset() if old is None else removed_roles(old)
    for name, found in roles.items():
        try:
            publisher_name(name)
        except FormatError as why:
            raise RefusedError(f"{what} delegates to {name[:240]!r}: {why}") from why
        acceptance_rules.require_exact(
            what, name, found, paths=publisher_patterns(name)
        )
        keys = acceptance_rules.role_keys(what, name, new)
        now = None if old is None else signers_of(old, name)
        warnings += acceptance_rules.require_no_old_key(
            before, name, keys, now=now, new=new
        )
        if now is None:
            warnings.append(f"{name} becomes a publisher")
            if name in removed:
                warnings.append(returns(name))
    for name in acceptance_rules.delegated(old):
        if name not in roles and old is not None:
            acceptance_rules.require_taken_away(what, name, old, new)
            warnings.append(
                f"{name} is removed: devices refuse all its applications from now on"
            )
    return warnings
