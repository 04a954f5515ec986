"""Submissions that no honest tool makes: Mallory writes metadata by hand.

`Forged` starts from what is published, changes it, and signs it with the keys that
Mallory has; `refused` is what all attacks by submissions end with.
"""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import SSlibKey

from margo_supplychain import threshold
from margo_supplychain.authoring.submission import Base, Submission, SubmittedTarget
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.publisher_policy import FORMAT
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import canonical_payload, parse_targets
from tests.authoring.market import LAMP, PUMP, Market
from tests.authoring.submissions import OCTETS, Held
from tests.authoring.trust import key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.accepted import Refusal
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.tuf_metadata import RoleFile

    Change = Callable[[dict[str, Any]], object]


def nothing(signed: dict[str, Any]) -> None:
    """Change nothing."""
    del signed


def sign(
    role: str, signed: dict[str, Any], signers: Iterable[str | tuple[str, str]]
) -> RoleFile[Targets]:
    """Return a role's file, whatever it says, with these signatures.

    Args:
        role: which.
        signed: what it says.
        signers: keys, or pairs of a key and the id that its signature shall have.
    """
    payload = canonical_payload(signed)
    keys = [
        (key(one), None) if isinstance(one, str) else (key(one[0]), one[1])
        for one in signers
    ]
    made = [
        {**one.sign(payload).to_dict(), **({} if keyid is None else {"keyid": keyid})}
        for one, keyid in keys
    ]
    data = json.dumps({"signatures": made, "signed": signed}).encode()
    return parse_targets(data, role=role, limit=len(data))


def role(
    market: Market,
    name: str,
    change: Change = nothing,
    *signers: str | tuple[str, str],
    step: int = 1,
    days: float = 30,
) -> RoleFile[Targets]:
    """Return the next version of a published role, as Mallory would have it.

    Args:
        market: where it is published.
        name: the role.
        change: what is changed of what it says.
        signers: by default those whose role it is.
        step: how far its version goes on.
        days: how long it lasts.
    """
    version = market.version(name)
    signed = market.signed(f"{version}.{name}.json")
    signed["version"] = version + step
    signed["expires"] = format_time(market.clock.when + timedelta(days=days))
    change(signed)
    honest = [f"{name.partition('.')[0]}-ci" if "." in name else name]
    return sign(name, signed, signers or honest)


def hand_in(
    market: Market,
    *roles: RoleFile[Targets],
    targets: Mapping[str, bytes] | None = None,
    blobs: Sequence[bytes] = (),
    publisher: str = "acme",
) -> str:
    """Hand in roles with target files and content; return the submission's name."""
    content = {Descriptor.of(one, OCTETS).digest: one for one in blobs}
    what = sorted(
        (Descriptor.of(one, OCTETS) for one in content.values()),
        key=lambda one: str(one.digest),
    )
    return market.inbox.put(
        Submission(
            publisher=publisher,
            created=market.clock.when,
            base=Base(1, "ab" * 32),
            roles=tuple(sorted(roles, key=lambda one: one.role)),
            targets=tuple(
                SubmittedTarget(TargetPath(path), data)
                for path, data in sorted((targets or {}).items())
            ),
            content=tuple(what),
            source=Held(list(content.values())),
        )
    )


def entry(data: bytes, custom: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a role says of a target file."""
    what = Descriptor.of(data, OCTETS)
    found: dict[str, Any] = {"length": what.size, "hashes": {"sha256": what.digest.hex}}
    return found if custom is None else {**found, "custom": custom}


def listing(
    market: Market, release: Release, path: str | None = None, **changes: Any
) -> tuple[Change, dict[str, bytes], list[bytes]]:
    """Return a change that lists a release, with its record and content.

    Args:
        market: for the time.
        release: what is listed.
        path: where; under its own name by default.
        changes: fields of the entry's custom that say something else.
    """
    record = release.record(market.clock.when)
    data, at = record.to_bytes(), path or record.path
    custom = {**record.entry().to_custom(), **changes}

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][at] = entry(data, custom)

    blobs = []
    for part in release.parts():
        with release.open(part.descriptor) as stream:
            blobs.append(stream.read())
    return change, {at: data}, blobs


def set_policy(
    name: ReleaseName, policy: PublisherPolicy | bytes, path: str | None = None
) -> tuple[Change, dict[str, bytes]]:
    """Return a change that lists a policy, with its file."""
    data = policy if isinstance(policy, bytes) else policy.to_bytes()
    at = path or name.policy_path(FORMAT)

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][at] = entry(data)

    return change, {at: data}


def delegate(
    name: str,
    *keys: str,
    paths: Sequence[str] | None = None,
    forgets: bool = False,
    **fields: Any,
) -> Change:
    """Return a change that delegates to a role, exactly or as `fields` say.

    Args:
        name: the role.
        keys: its keys from now on.
        paths: its patterns; those of an application by default.
        forgets: which keys leave is not noted.
        fields: of the delegation.
    """
    public = [key(one) for one in keys]

    def change(signed: dict[str, Any]) -> None:
        delegations = signed.setdefault("delegations", {"keys": {}, "roles": []})
        if not forgets:
            note_leaving(
                signed, name, {threshold.material(k.public_key) for k in public}
            )
        for one in public:
            delegations["keys"][one.public_key.keyid] = one.public_key.to_dict()
        known = [one for one in delegations["roles"] if one["name"] != name]
        found: dict[str, Any] = {
            "name": name,
            "keyids": [one.public_key.keyid for one in public],
            "threshold": 1,
            "terminating": True,
            "paths": list(paths if paths is not None else _paths(name)),
        }
        delegations["roles"] = [*known, {**found, **fields}]

    return change


def note_leaving(signed: dict[str, Any], name: str, staying: set[str]) -> None:
    """Note which keys of a role leave, as the tools of vendors do."""
    keys = signed["delegations"]["keys"]
    had = {
        threshold.material(SSlibKey.from_dict(keyid, copy.deepcopy(keys[keyid])))
        for one in signed["delegations"]["roles"]
        if one["name"] == name
        for keyid in one["keyids"]
    }
    if had - staying:
        left = signed.setdefault("x-left", {})
        left[name] = sorted({*left.get(name, ()), *(had - staying)})


def _paths(name: str) -> tuple[str, ...]:
    publisher, _, application = name.partition(".")
    return (f"{publisher}/releases/{application}/*",)


def all_of(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(signed: dict[str, Any]) -> None:
        for one in changes:
            one(signed)

    return change


def refused(market: Market, name: str, *reasons: str, code: str = "refused") -> Refusal:
    """Expect that a submission is refused, and that it harms nobody.

    Not a byte of the repository moves; and what another vendor hands in beside it is
    published at once, in the same run.

    Args:
        market: what stands before.
        name: of the submission.
        reasons: found in what the operator is told, after the vendor's name.
        code: of the error.
    """
    before = market.files()
    done = market.accept()
    assert done.taken == ()
    found = next(one for one in done.refused if one.name == name)
    for reason in reasons:
        assert reason in found.reason
    assert found.code == code
    assert found.reason.startswith(f"{found.publisher}: ")
    assert market.files() == before
    following = f"1.0.{int(market.newest(LAMP).rpartition('.')[2]) + 1}"
    market.hand_in(following, LAMP)
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["globex"]
    assert found in done.refused
    assert market.newest(LAMP) == following
    assert market.newest(PUMP) == "1.0.0"
    assert market.repository.check(clock=market.clock).violations == ()
    assert market.inbox.names().names == (name,)
    return found
