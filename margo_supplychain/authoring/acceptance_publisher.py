"""What an operator takes of a publisher's role: policies, layouts and delegations.

    1  it lists policies and layouts of grammatical names, and nothing else
    2  it delegates to its own applications, by their names and exactly so
    3  no key that left an application returns, and none leaves without a word
    4  each policy is one, of the format that devices know, and may follow the last; it
       and the role name the same layouts, which devices can read

Whether devices still follow each application is judged afterwards, for all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain import threshold
from margo_supplychain.authoring import (
    acceptance_past,
    acceptance_rules,
    delegator_room,
    policy_effects,
    rules,
)
from margo_supplychain.authoring.layouts import require_own_ids
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.names import ReleaseName, application_patterns
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.provenance.layouts import read_layout
from margo_supplychain.verify import resolve

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile, Targets

    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.verify.resolve import Candidate

MAX_LAYOUT: Final = LIMITS.layout
_NUMBER: Final = re.compile(r"([1-9][0-9]{0,6})\.json", re.ASCII)


class Listed(NamedTuple):
    """A target of a publisher's role, by its name.

    Args:
        name: whose.
        kind: `policies` or `layouts`.
        number: the policy's format, or the layout's number.
    """

    name: ReleaseName
    kind: str
    number: int


def parse_listed(what: str, path: str) -> Listed:
    """Return what a path of a publisher's role is.

    Raises:
        RefusedError: nothing that this role may list.
    """
    publisher, _, rest = path.partition("/")
    kind, _, rest = rest.partition("/")
    name, _, last = rest.partition("/")
    number = _NUMBER.fullmatch(last)
    try:
        found = ReleaseName(publisher, name)
    except FormatError as why:
        raise RefusedError(f"{what} lists {path[:240]!r}: {why}") from why
    if kind not in {"policies", "layouts"} or number is None:
        raise RefusedError(
            f"{what} lists {path[:240]!r}, which is neither a policy nor a layout of "
            "an application",
            hint="releases are listed by the application's own role",
        )
    return Listed(found, kind, int(number[1]))


@final
class PublisherJudgement:
    """One new file of a publisher's role, over the repository before and with it.

    Args:
        before: how the repository stands.
        after: how it would stand with all that was submitted.
        file: the role's file, signed by its keys.

    Attributes:
        warnings: what its author and the operator should know.
    """

    def __init__(
        self, before: Prospect, after: Prospect, file: RoleFile[Targets]
    ) -> None:
        self._before = before
        self._after = after
        self._publisher = file.role
        self._label = file.label
        self._new = file.signed
        self._old = before.standing(file.role)
        self._targets: dict[str, TargetFile] = {}
        if self._old is not None:
            self._targets = dict(self._old.targets)
        # Applications that are no more, and were never published: nothing of them needs
        # to stay. Else whoever adds and removes fills what every device reads.
        self._gone = frozenset(
            one
            for one in delegator_room.ever_named(self._old, file.role)
            if one not in acceptance_rules.delegated(self._new) and not after.lists(one)
        )
        self.warnings: list[str] = []

    def run(self) -> None:
        """Judge it.

        Raises:
            RefusedError: a rule is broken.
            VerificationError, FormatError: a file is not what is signed, or no policy.
            FetchError: a file can't be read.
        """
        self._check_delegations()
        listed = self._check_targets()
        for one in listed:
            if one.kind == "layouts":
                self._check_layout(one)
        for one in listed:
            if one.kind == "policies":
                self._check_policy(one.name)
        self._require_layouts()

    # --- 2 and 3 ---------------------------------------------------------------------

    def _check_delegations(self) -> None:
        what, new = self._label, self._new
        acceptance_rules.require_plain_delegations(what, new)
        roles = acceptance_rules.delegated(new)
        known = acceptance_rules.delegated(self._old)
        self.warnings += acceptance_rules.require_remembered(
            what, self._old, new, dropped=self._gone
        )
        listed = [one.removesuffix(".json") for one in self._after.meta]
        delegator_room.require_few(what, self._publisher, self._old, new, listed=listed)
        delegator_room.require_light(what, self._old, new)
        for role, found in roles.items():
            name = self._application(role)
            acceptance_rules.require_exact(
                what, name.role, found, paths=application_patterns(name)
            )
            self._check_keys(name)
        for role in known:
            if role not in roles and self._old is not None:
                if role not in self._gone:
                    acceptance_rules.require_taken_away(what, role, self._old, new)
                self.warnings.append(
                    f"{role} is removed: devices refuse that application from now on"
                )
        acceptance_past.require_same_past(
            self._before, self._after, what, self._old, new
        )
        if self._old is None and self._before.lists(self._publisher):
            self.warnings.append(
                f"nothing stands of what {self._publisher} said before: {what} was "
                "compared with nothing"
            )

    def _application(self, role: str) -> ReleaseName:
        publisher, dot, name = role.partition(".")
        try:
            if publisher != self._publisher or not dot:
                raise RefusedError(
                    f"{self._label} delegates to {role[:240]!r}, which is no "
                    f"application of {self._publisher}"
                )
            return ReleaseName(publisher, name)
        except FormatError as why:
            raise RefusedError(
                f"{self._label} delegates to {role[:240]!r}: {why}"
            ) from why

    def _check_keys(self, name: ReleaseName) -> None:
        keys = acceptance_rules.role_keys(self._label, name.role, self._new)
        now = None if self._old is None else signers_of(self._old, name.role)
        self.warnings += acceptance_rules.require_no_old_key(
            self._before, name.role, keys, now=now, new=self._new
        )
        path = name.policy_path(FORMAT)
        file, known = self._new.targets.get(path), self._targets.get(path)
        if file is None:
            raise RefusedError(
                f"{self._label} delegates to {name.role}, and has no policy for it: "
                "devices deny what has none",
                hint=f"sign one: margo-supplychain app policy {name}",
            )
        is_same = known is not None and acceptance_rules.is_same_file(known, file)
        had = () if now is None else now.keys
        # A policy that was lost here is no reason against another application's.
        if is_same and set(keys.keyids) <= set(had):
            return
        if self._policy(name).provenance == "required":
            self._require_apart(name, keys)

    def _require_apart(self, name: ReleaseName, keys: RoleKeys) -> None:
        """Refuse offline keys as those of an application that must prove provenance."""
        above: set[str] = set()
        for role in ("root", "targets", self._publisher):
            who = self._after.who(role)
            if who is not None:
                above.update(threshold.material(key) for key in who.keys.values())
        if above & keys.materials():
            raise RefusedError(
                f"{self._label} gives {name.role} a key that is also an offline one, "
                "so nothing that it signs can prove provenance",
                hint="give the application a key of its own",
            )

    # --- 1 ---------------------------------------------------------------------------

    def _check_targets(self) -> list[Listed]:
        """Return what is listed anew, or otherwise than before."""
        self._require_policies()
        changed = []
        for path, file in self._new.targets.items():
            what = f"{path[:240]} of {self._label}"
            one = parse_listed(self._label, path)
            if one.name.publisher != self._publisher:
                raise RefusedError(
                    f"{self._label} lists {path[:240]!r}, which is not "
                    f"{self._publisher}'s"
                )
            limit = LIMITS.policy if one.kind == "policies" else MAX_LAYOUT
            acceptance_rules.require_one_file(what, file, limit=limit)
            if file.custom is not None:
                raise RefusedError(f"{what} has custom fields, which no rule knows")
            known = self._targets.get(path)
            if known is not None and acceptance_rules.is_same_file(known, file):
                continue
            if one.kind == "policies" and one.number != FORMAT:
                raise RefusedError(
                    f"{what} is a policy of format {one.number}, and {FORMAT} is what "
                    "this version judges",
                    hint="update margo-supplychain here, or hand in that format alone",
                )
            if one.name.role not in acceptance_rules.delegated(self._new):
                raise RefusedError(
                    f"{what} is about an application that {self._publisher} does not "
                    "delegate to"
                )
            changed.append(one)
        return changed

    def _require_policies(self) -> None:
        """Refuse that a policy vanishes: its epoch could start again from 1."""
        for path in self._targets.keys() - self._new.targets.keys():
            one = parse_listed(self._label, path)
            if one.kind == "policies" and one.name.role not in self._gone:
                raise RefusedError(
                    f"{self._label} drops the policy of {one.name}: its epoch could "
                    "fall, so it stays listed, also when the application is removed",
                    hint="to remove it: margo-supplychain publisher remove "
                    f"{one.name}; to change it: margo-supplychain app policy "
                    f"{one.name}",
                )

    # --- 4 ---------------------------------------------------------------------------

    def _policy(self, name: ReleaseName) -> PublisherPolicy:
        path = name.policy_path(FORMAT)
        data = self._after.walk.target(
            path, self._new.targets[path], limit=LIMITS.policy
        )
        return PublisherPolicy.parse(data)

    def _old_policy(self, name: ReleaseName) -> PublisherPolicy | None:
        path = name.policy_path(FORMAT)
        file = self._targets.get(path)
        if file is None:
            return None
        try:
            data = self._before.tolerant.target(path, file, limit=LIMITS.policy)
            return PublisherPolicy.parse(data)
        except (FetchError, VerificationError) as why:
            if isinstance(why, FetchError) and not why.missing:
                raise
            self.warnings.append(
                f"the publisher policy of {name} was damaged or lost: the new one was "
                "not compared with it, and devices that saw a higher epoch refuse it"
            )
            return None

    def _check_policy(self, name: ReleaseName) -> None:
        new = self._policy(name)
        # What the role lists afterwards: a policy may speak of what comes with it.
        said = self._after.standing(name.role)
        listed = () if said is None else resolve.listed(said, name)
        old = self._old_policy(name)
        rules.check_policy(
            name,
            old,
            new,
            profile="standard",
            listed=listed,
            role_version=self._before.version(name.role),
        )
        self.warnings += rules.policy_warnings(name, new, listed)
        newest = listed[: policy_effects.MOST]  # of each, the record may be read
        self.warnings += rules.unserved(
            name, old, new, newest, release_of=self._release_of
        )

    def _release_of(self, one: Candidate) -> Digest | None:
        """Return what a policy names a release by; None if its record can't be read."""
        try:
            data = self._after.tolerant.target(one.path, one.file, limit=LIMITS.record)
            release: Digest = ReleaseRecord.parse(data).release
        except (FetchError, VerificationError):
            return None
        return release

    def _require_layouts(self) -> None:
        """Refuse a policy that names what is not listed: devices would look for it."""
        paths = {*self._new.targets, *self._targets}
        changed = {
            parse_listed(self._label, path).name
            for path in paths
            if not self._is_same(path)
        }
        for name in sorted(changed, key=str):
            if name.role not in acceptance_rules.delegated(self._new):
                continue
            for rule in self._policy(name).layouts:
                file = self._new.targets.get(name.layout_path(rule.number))
                if file is None or file.hashes["sha256"] != rule.digest.hex:
                    raise RefusedError(
                        f"the policy of {name} names layout {rule.number}, which "
                        f"{self._label} does not list with that digest",
                        hint=f"list it: margo-supplychain app policy {name} --layout "
                        "FILE --serves RANGE",
                    )

    def _is_same(self, path: str) -> bool:
        new, old = self._new.targets.get(path), self._targets.get(path)
        return (
            new is not None
            and old is not None
            and acceptance_rules.is_same_file(new, old)
        )

    def _check_layout(self, one: Listed) -> None:
        """Refuse a layout that the policy does not name, or that devices can't read."""
        file = self._new.targets[one.name.layout_path(one.number)]
        named = {
            rule.number: rule.digest.hex for rule in self._policy(one.name).layouts
        }
        if named.get(one.number) != file.hashes["sha256"]:
            raise RefusedError(
                f"{self._label} lists layout {one.number} of {one.name}, which its "
                "policy does not name with that digest"
            )
        path = one.name.layout_path(one.number)
        data = self._after.walk.target(path, file, limit=MAX_LAYOUT)
        layout, _ = read_layout(data, what=path)
        require_own_ids(layout, path)
