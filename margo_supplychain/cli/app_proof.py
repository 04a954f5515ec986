"""What `app policy` says of provenance: layouts, statements, summaries, functionaries.

`app_proof_options` has the options themselves.

Example:
    >>> type_name("https://cyclonedx.org/bom"), type_name("https://example.com/x")
    ('cyclonedx', 'https://example.com/x')
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from margo_supplychain.cli.arguments import NONE
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.signing_keys import read_public
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.predicates import CSAF, CYCLONEDX, OPENVEX, SPDX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.layouts import LayoutFile
    from margo_supplychain.formats.attestation_rules import (
        AttestationRule,
        PolicyKey,
        SummaryRule,
    )
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.publisher_policy import LayoutRule, PublisherPolicy
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.signing.keyring import Keyring

# Called as `attest add` calls them. Without version: each stands for every version of
# the predicate.
TYPES: Final[Mapping[str, str]] = {
    "slsa-provenance": "https://slsa.dev/provenance",
    "cyclonedx": CYCLONEDX,
    "spdx": SPDX,
    "openvex": OPENVEX,
    "csaf": CSAF,
    "test-result": "https://in-toto.io/attestation/test-result",
    "review": "https://in-toto.io/attestation/human-review/vcs",
}
_ELSEWHERE: Final = {
    "link": "links are demanded by a layout: --layout FILE --serves RANGE",
    "vsa": "summaries are signed by --summary-key",
}
_KEYID: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_NUMBERED: Final = re.compile(r"([1-9][0-9]{0,6})=(.+)", re.ASCII)


class GivenKeys(NamedTuple):
    """Public keys that options name, read before anything is changed.

    Args:
        attestations: predicate type → keys; empty to demand it no more.
        summary: of those who sign summaries.
        revoked: as typed → the ids under which the functionary's links count no more;
            None for a key id, which the layouts are asked for.
        layout: the file of `--layout`, exactly as somebody has looked at it.
    """

    attestations: Mapping[str, Sequence[Key]]
    summary: Sequence[Key]
    revoked: Mapping[str, tuple[str, ...] | None]
    layout: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofChanges:
    """What `app policy` shall change of provenance; None and () change nothing."""

    layout: str | None = None
    serves: Pin | None = None
    layout_expires: Sequence[str] = ()
    drop_layouts: Sequence[int] = ()
    attestations: Sequence[str] = ()
    attestation_threshold: int | None = None
    builders: Sequence[str] = ()
    sources: Sequence[str] = ()
    summary_keys: Sequence[str] = ()
    summary_threshold: int | None = None
    summary_max_age: timedelta | None = None
    revoked: Sequence[str] = ()
    survivors: Sequence[Version | Digest | str] = ()

    @property
    def any(self) -> bool:
        """Whether anything was asked for."""
        return any(getattr(self, one.name) not in (None, ()) for one in fields(self))

    def check(self) -> None:
        """Refuse options that say nothing without others.

        Raises:
            click.UsageError: such as `--serves` without `--layout`.
        """
        if (self.layout is None) != (self.serves is None):
            raise click.UsageError(
                "--layout and --serves go together: which versions are made by it?"
            )
        if self.layout and sum("=" not in one for one in self.layout_expires) > 1:
            raise click.UsageError("--layout-expires is given twice for one layout")
        if self.survivors and not self.revoked:
            raise click.UsageError("--survivor goes with --revoke-functionary")
        if self.attestation_threshold is not None and not self.attestations:
            raise click.UsageError("--attestation-threshold goes with --attestation")
        if NONE in self.summary_keys and len(self.summary_keys) > 1:
            raise click.UsageError("--summary-key none goes alone")

    def read_keys(self, keyring: Keyring) -> GivenKeys:
        """Read the public keys that are named.

        Raises:
            FormatError, SignerError: one can't be read.
            click.UsageError: not TYPE=KEY.pub.
        """
        from margo_supplychain.threshold import material

        statements: dict[str, list[Key]] = {}
        for text in self.attestations:
            name, divided, uris = text.partition("=")
            if not (name and divided and uris):
                raise click.UsageError(
                    f"--attestation {text!r:.80} is not TYPE=KEY.pub[,KEY.pub…]"
                )
            keys = statements.setdefault(_type(name), [])
            if uris != NONE:
                keys += [read_public(keyring, uri).key for uri in uris.split(",")]
        revoked: dict[str, tuple[str, ...] | None] = {}
        for text in self.revoked:
            if _KEYID.fullmatch(text) is not None and not Path(text).exists():
                revoked[text] = None
            else:
                key = read_public(keyring, text).key
                revoked[text] = (key.keyid, material(key))
        return GivenKeys(
            attestations=statements,
            summary=[
                read_public(keyring, uri).key
                for uri in self.summary_keys
                if uri != NONE
            ],
            revoked=revoked,
        )

    def read_layout(self) -> tuple[bytes, LayoutFile] | None:
        """Read the layout that is given, once: what is shown is what is listed.

        Returns:
            Its exact bytes, and what they say.

        Raises:
            FormatError: there is no such file, or it is no layout that devices take.
            RefusedError: it has no signature at all.
        """
        if self.layout is None:
            return None
        from margo_supplychain.authoring.layouts import LayoutFile
        from margo_supplychain.provenance.layouts import MAX_LAYOUT

        path = Path(self.layout)
        data = read_named(path, limit=MAX_LAYOUT, what="a signed layout")
        found = LayoutFile.parse(data, what=str(path))
        if found.envelope is None:
            raise RefusedError(
                f"nobody has signed {path}",
                hint="whoever holds a key of the publisher reads and signs it: "
                f"margo-supplychain layout sign {path}",
            )
        return data, found

    def apply_layout(
        self, edit: Edit, name: ReleaseName, given: GivenKeys
    ) -> int | None:
        """List the layout that is given, in an edit; return its number.

        Raises:
            RefusedError, FormatError: as `Edit.add_layout`.
        """
        if given.layout is None or self.serves is None:
            return None
        bare = [one for one in self.layout_expires if "=" not in one]
        expires = _moment(bare[0]) if bare else None
        return edit.add_layout(name, given.layout, serves=self.serves, expires=expires)

    def applied(
        self,
        policy: PublisherPolicy,
        given: GivenKeys,
        survivors: tuple[Digest, ...],
        functionaries: Sequence[Key],
    ) -> PublisherPolicy:
        """Return a policy with all that is asked for, but a new layout.

        Args:
            policy: as it stands.
            given: from `read_keys`.
            survivors: releases of `--survivor`.
            functionaries: of the application's layouts.

        Raises:
            RefusedError: what is not there, or would mean nothing.
        """
        policy = self._dropped(self._expires(policy))
        policy = self._statements(policy, given)
        policy = self._summary(policy, given)
        used = {keyid for rule in policy.attestations for keyid in rule.keyids}
        if policy.summary is not None:
            used.update(policy.summary.keyids)
        policy = replace(
            policy, keys=tuple(one for one in policy.keys if one.keyid in used)
        )
        return self._revocations(policy, given, survivors, functionaries)

    def _expires(self, policy: PublisherPolicy) -> PublisherPolicy:
        for text in self.layout_expires:
            found = _NUMBERED.fullmatch(text)
            if found is None:
                if self.layout is None:
                    raise click.UsageError(
                        f"--layout-expires {text!r:.80} is not N=DATE"
                    )
                continue
            rule = _listed(policy, int(found[1]))
            end = None if found[2] == NONE else _moment(found[2])
            changed = tuple(
                replace(one, expires=end) if one is rule else one
                for one in policy.layouts
            )
            policy = replace(policy, layouts=changed)
        return policy

    def _dropped(self, policy: PublisherPolicy) -> PublisherPolicy:
        gone = {_listed(policy, number).number for number in self.drop_layouts}
        kept = tuple(one for one in policy.layouts if one.number not in gone)
        return replace(policy, layouts=kept)

    def _statements(self, policy: PublisherPolicy, given: GivenKeys) -> PublisherPolicy:
        from margo_supplychain.formats.attestation_rules import AttestationRule

        rules = {one.type: one for one in policy.attestations}
        keys = {one.keyid: one for one in policy.keys}
        for type_, signers in given.attestations.items():
            before = rules.pop(type_, None)
            if not signers:
                continue
            keys.update(_policy_keys(signers))
            rules[type_] = AttestationRule(
                type=type_,
                keyids=tuple(dict.fromkeys(one.keyid for one in signers)),
                threshold=_threshold(
                    "attestation",
                    type_name(type_),
                    self.attestation_threshold,
                    [one.keyid for one in signers],
                    before,
                )
                or 1,
                builders=() if before is None else before.builders,
                sources=() if before is None else before.sources,
            )
        if self.builders or self.sources:
            type_ = _provenance(rules)
            if self.builders:
                named = tuple(one for one in self.builders if one != NONE)
                rules[type_] = replace(rules[type_], builders=named)
            if self.sources:
                named = tuple(one for one in self.sources if one != NONE)
                rules[type_] = replace(rules[type_], sources=named)
        return replace(
            policy, attestations=tuple(rules.values()), keys=tuple(keys.values())
        )

    def _summary(self, policy: PublisherPolicy, given: GivenKeys) -> PublisherPolicy:
        from margo_supplychain.formats.attestation_rules import SummaryRule

        if NONE in self.summary_keys:
            return replace(policy, summary=None)
        if not (self.summary_keys or self.summary_threshold or self.summary_max_age):
            return policy
        before = policy.summary
        keys = {one.keyid: one for one in policy.keys}
        keys.update(_policy_keys(given.summary))
        keyids = tuple(dict.fromkeys(one.keyid for one in given.summary))
        if not keyids and before is not None:
            keyids = before.keyids
        age = self.summary_max_age or (None if before is None else before.max_age)
        if not keyids or age is None:
            raise click.UsageError(
                "summaries need --summary-key and --summary-max-age: who vouches, and "
                "for how long?"
            )
        threshold = _threshold(
            "summary", "a summary", self.summary_threshold, keyids, before
        )
        if threshold is None:
            threshold = 1
            if len(keyids) > 1:
                raise click.UsageError(
                    f"--summary-threshold is missing: {len(keyids)} keys are given, "
                    f"and 1 to {len(keyids)} of them may be enough"
                )
        rule = SummaryRule(keyids=keyids, threshold=threshold, max_age=age)
        return replace(policy, summary=rule, keys=tuple(keys.values()))

    def _revocations(
        self,
        policy: PublisherPolicy,
        given: GivenKeys,
        survivors: tuple[Digest, ...],
        functionaries: Sequence[Key],
    ) -> PublisherPolicy:
        from margo_supplychain.formats.publisher_policy import RevokedFunctionary

        revoked = {one.key: one for one in policy.revoked_functionaries}
        for text, known in given.revoked.items():
            for keyid in known or _ids(text, functionaries):
                if self.survivors or keyid not in revoked:
                    revoked[keyid] = RevokedFunctionary(key=keyid, survivors=survivors)
        return replace(policy, revoked_functionaries=tuple(revoked.values()))


def _threshold(
    option: str,
    what: str,
    given: int | None,
    keyids: Sequence[str],
    before: AttestationRule | SummaryRule | None,
) -> int | None:
    """Return how many must sign: as given, or as it was; None where nothing says it.

    Raises:
        click.UsageError: more than keys; or others replace some of which several must.
    """
    count = len(set(keyids))
    if given is not None:
        if given > count:
            raise click.UsageError(
                f"--{option}-threshold {given} is more than the "
                f"{'key' if count == 1 else f'{count} keys'} of {what}: give it for "
                "one that has as many"
            )
        return given
    if before is None or (before.threshold == 1 and set(before.keyids) != set(keyids)):
        return None
    if not set(before.keyids) <= set(keyids):
        raise click.UsageError(
            f"--{option}-threshold is missing: {what} needs {before.threshold} of "
            f"{len(before.keyids)} signatures, and other keys are given"
        )
    return before.threshold


def _listed(policy: PublisherPolicy, number: int) -> LayoutRule:
    """Return what a policy says of a layout.

    Raises:
        RefusedError: nothing.
    """
    rule = policy.layout(number)
    if rule is None:
        known = ", ".join(str(one.number) for one in policy.layouts) or "none"
        raise RefusedError(
            f"there is no layout {number}", hint=f"its layouts are {known}"
        )
    return rule


def _ids(text: str, functionaries: Sequence[Key]) -> tuple[str, ...]:
    """Return the ids of the functionary whose key id begins so: its own and material.

    Where layouts call several keys by one id, all of them are meant.

    Raises:
        RefusedError: no layout names such a key, or several.
    """
    from margo_supplychain.threshold import material

    meant = [one for one in functionaries if one.keyid.startswith(text)]
    found = {material(one): one.keyid for one in meant}
    ids = dict.fromkeys(one.keyid for one in meant)
    if meant and 1 in (len(found), len(ids)):
        return (*(one for one in ids if len(one) == 64), *found)
    if not meant and len(text) == 64:
        return (text,)  # of a layout that is gone: its id is all that is left
    problem = "no functionary's key id begins" if not meant else "several key ids begin"
    known = ", ".join(dict.fromkeys(one.keyid[:12] for one in functionaries)) or "none"
    raise RefusedError(
        f"{problem} with {text}", hint=f"functionaries of the layouts here: {known}"
    )


def _type(name: str) -> str:
    if name in _ELSEWHERE:
        raise click.UsageError(f"--attestation {name}: {_ELSEWHERE[name]}")
    if name not in TYPES and ":" not in name:
        raise click.UsageError(
            f"--attestation {name!r:.80} is no type: expected a URL, or one of "
            f"{', '.join(TYPES)}"
        )
    return TYPES.get(name, name)


def type_name(type_: str) -> str:
    """Return the short name of a predicate type, or the type."""
    return next((name for name, known in TYPES.items() if known == type_), type_)


def _provenance(rules: Mapping[str, AttestationRule]) -> str:
    """Return the type of the rule that demands SLSA provenance.

    Raises:
        RefusedError: none does, so builders and sources would be asked of nothing.
    """
    for type_, rule in rules.items():
        if rule.covers_provenance:
            return type_
    raise RefusedError(
        "no SLSA provenance is demanded that could name a builder or a source",
        hint="demand it: --attestation slsa-provenance=KEY.pub",
    )


def _policy_keys(keys: Sequence[Key]) -> dict[str, PolicyKey]:
    from margo_supplychain.formats.attestation_rules import PolicyKey

    return {one.keyid: one for one in map(PolicyKey.of, keys)}


def _moment(text: str) -> datetime:
    from margo_supplychain.authoring.layout_plan import parse_moment

    return parse_moment(text, what="--layout-expires")
