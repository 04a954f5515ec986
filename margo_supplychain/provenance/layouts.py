"""Reading an in-toto layout: who does which step, and what goes in and out.

Everything is strict: an unknown field, which might restrict something, is refused, and
so is whatever could not be satisfied or would prove nothing. What in-toto-golang adds
and leaves empty (ITE-7) is taken. Inspections are commands that a verifier would run:
refused. Knows nothing of links, times or who signed the layout: TUF's listing decides
that (docs/adr/0022-provenance.md).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import FormatError, KeyFormatError, ProvenanceError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.dsse import PAYLOAD, Envelope
from margo_supplychain.formats.fields import Fields
from margo_supplychain.formats.plain_text import plain
from margo_supplychain.formats.release_products import MANIFEST_PRODUCT
from margo_supplychain.provenance.findings import Finding
from margo_supplychain.provenance.rules import ArtifactRule
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from securesystemslib.signer import Key

MAX_LAYOUT: Final = 1 << 20  # bytes, of the envelope and of its payload
MAX_STEPS: Final = 64
MAX_KEYS: Final = 256
MAX_RULES: Final = 1000  # of all steps together; bounds the work for each artifact
MAX_COMMAND: Final = 1000  # words
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
STEP_NAME: Final = "1 to 100 of A-Za-z0-9._-, not . or .."
"""What `is_step_name` takes, in words."""
_KEYID: Final = re.compile(r"[0-9a-fA-F]{1,128}", re.ASCII)
RELEASE_RULE: Final = ArtifactRule("REQUIRE", MANIFEST_PRODUCT)
"""The rule that marks the release step, among its expected products."""


class LayoutStep(NamedTuple):
    """One step.

    Args:
        name: of the step and of its links.
        keyids: of the functionaries who may do it; one material each.
        threshold: how many of them must have done it, from 1 to their number.
        materials, products: the rules for what goes in and out, in order.
        command: what is expected to run; said, never enforced.
    """

    name: str
    keyids: tuple[str, ...]
    threshold: int
    materials: tuple[ArtifactRule, ...]
    products: tuple[ArtifactRule, ...]
    command: tuple[str, ...] = ()


class Layout(NamedTuple):
    """A well-formed layout; who signed it was not looked at.

    Args:
        expires: the file's own expiry; a publisher policy may replace it.
        keys: the functionaries' keys, by the layout's key ids.
        steps: at least one, with distinct names.
        readme: for people.
        release_step: name of the step whose products are the release.
    """

    expires: datetime
    keys: Mapping[str, Key]
    steps: tuple[LayoutStep, ...]
    readme: str
    release_step: str

    def step(self, name: str) -> LayoutStep | None:
        """Return the step of that name."""
        return next((one for one in self.steps if one.name == name), None)


def read_layout(envelope: bytes, *, what: str) -> tuple[Layout, Envelope]:
    """Read an unverified DSSE envelope with a layout.

    Raises:
        ProvenanceError: as in `parse_layout`; no envelope, or another payload type.
    """
    try:
        found = Envelope.parse(envelope, what=what, limit=MAX_LAYOUT)
    except FormatError as why:
        raise ProvenanceError(str(why), reason="envelope") from why
    # check 4.70: a signature over another type says something else
    if found.payload_type != PAYLOAD:
        raise ProvenanceError(
            f"{what} has the payload type {found.payload_type[:80]!r}, expected "
            f"{PAYLOAD!r}",
            reason="payload-type",
            found=found.payload_type[:80],
            wanted=PAYLOAD,
        )
    return parse_layout(found.payload, what=what), found


def parse_layout(payload: bytes, *, what: str) -> Layout:
    """Parse the unverified payload of a layout's envelope.

    Args:
        payload: unverified JSON.
        what: names the layout in errors.

    Raises:
        ProvenanceError: `layout-malformed`: not strict JSON, unknown fields, names,
            keys or rules that are none, no release step or two, MATCH from an unknown
            step. `layout-empty`: no steps. `inspection`: a command to run.
            `layout-threshold`: below 1, above the step's distinct keys, or one key
            under two ids.
    """
    try:
        value = strict_json.parse(payload, what=what, limit=MAX_LAYOUT)
        return _layout(Fields(_without_null(value), what=what))
    except FormatError as why:
        raise ProvenanceError(str(why), reason="layout-malformed") from why


def _layout(fields: Fields) -> Layout:
    what = fields.what
    found = fields.text("_type")
    # check 4.71: a link or a statement is no layout
    if found != "layout":
        raise _malformed(f"{what} is of type {found[:40]!r}, expected 'layout'")
    # check 4.72: whoever wrote the layout would choose a command that runs here
    if fields.has("inspect") and fields.items("inspect", limit=MAX_STEPS):
        raise ProvenanceError(
            f"{what} has inspections, which are commands for the verifier to run",
            reason="inspection",
            wanted="a layout without inspections: the release step's products are "
            "compared with the release instead",
        )
    _no_certificates(fields, "rootcas", "intermediatecas")
    expires = fields.time("expires")
    readme = fields.text("readme") if fields.has("readme") else ""
    keys = _keys(fields.object("keys"))
    steps = tuple(_step(one, keys) for one in fields.objects("steps", limit=MAX_STEPS))
    fields.done()
    # check 4.73: nothing to do is done by everybody
    if not steps:
        raise ProvenanceError(
            f"{what} has no steps",
            reason="layout-empty",
            found="0 steps",
            wanted="1 step or more",
        )
    _check_steps(steps, what)
    return Layout(expires, keys, steps, readme, _release_step(steps, what))


def _check_steps(steps: tuple[LayoutStep, ...], what: str) -> None:
    names = [one.name for one in steps]
    # check 4.74: two steps of one name would share their links
    for name in names:
        if names.count(name) > 1:
            raise _malformed(f"{what} has two steps of the name {name!r}")
    # check 4.75: bounded work for each artifact
    if sum(1 for _ in _rules(steps)) > MAX_RULES:
        raise _malformed(f"{what} has more than {MAX_RULES} rules")
    # check 4.76: a rule that can't match hides what its author meant
    for step, rule in _rules(steps):
        if rule.step is not None and rule.step not in names:
            raise ProvenanceError(
                f"{what}, step {step.name}: {rule.text!r} names no step of the layout",
                reason="layout-malformed",
                step=step.name,
                rule=rule.text,
                found=rule.step[:100],
                wanted=f"one of {', '.join(names[:8])}",
            )


def _release_step(steps: tuple[LayoutStep, ...], what: str) -> str:
    found = [one.name for one in steps if RELEASE_RULE in one.products]
    # check 4.77 (instead: found += [steps[-1].name]): one step makes the release
    if len(found) != 1:
        raise ProvenanceError(
            f"{what} has {len(found)} release steps, expected exactly 1: the one with "
            f"{RELEASE_RULE.text!r} among its products",
            reason="layout-malformed",
            rule=RELEASE_RULE.text,
            found=", ".join(found[:4]) or "no such step",
            wanted=f"one step with {RELEASE_RULE.text!r} among its products",
        )
    return found[0]


def _rules(
    steps: tuple[LayoutStep, ...],
) -> Iterator[tuple[LayoutStep, ArtifactRule]]:
    for step in steps:
        for rule in (*step.materials, *step.products):
            yield step, rule


def is_step_name(name: str) -> bool:
    """Say whether a step may be called so: its name goes into names of files."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def _step(fields: Fields, keys: Mapping[str, Key]) -> LayoutStep:
    what = fields.what
    name = fields.text("name")
    # check 4.78: names of steps go into file names of other tools
    if not is_step_name(name):
        raise _malformed(f"{what} has the name {name[:100]!r}, expected {STEP_NAME}")
    what = f"step {name}"
    if fields.text("_type") != "step":
        raise _malformed(f"{what} is not of type 'step'")
    _no_certificates(fields, "cert_constraints")
    threshold = fields.integer("threshold")
    keyids = fields.list_of("pubkeys", str, limit=MAX_KEYS)
    step = LayoutStep(
        name=name,
        keyids=keyids,
        threshold=threshold,
        materials=_rule_list(fields, "expected_materials"),
        products=_rule_list(fields, "expected_products"),
        command=(
            fields.list_of("expected_command", str, limit=MAX_COMMAND)
            if fields.has("expected_command")
            else ()
        ),
    )
    fields.done()
    _check_threshold(step, keys)
    return step


def _check_threshold(step: LayoutStep, keys: Mapping[str, Key]) -> None:
    seen: dict[str, str] = {}
    for keyid in step.keyids:
        # check 4.79: who is named has a key
        if keyid not in keys:
            raise _malformed(
                f"step {step.name} names key {plain(keyid[:12])}, which has none"
            )
        own = material(keys[keyid])
        # check 4.80: one key under two ids is one functionary
        if own in seen:
            raise _threshold(
                step,
                f"names one key twice, as {seen[own][:12]} and {keyid[:12]}",
                wanted="distinct keys",
            )
        seen[own] = keyid
    # check 4.81: what nobody must do, or nobody can do, proves nothing
    if not 1 <= step.threshold <= len(seen):
        raise _threshold(
            step,
            f"has the threshold {step.threshold} and {len(seen)} distinct keys",
            wanted=f"a threshold from 1 to {len(seen)}",
        )


def _threshold(step: LayoutStep, text: str, *, wanted: str) -> ProvenanceError:
    return Finding(
        "layout-threshold",
        f"step {step.name} {text}",
        step=step.name,
        found=text,
        wanted=wanted,
    ).error()


def _rule_list(fields: Fields, name: str) -> tuple[ArtifactRule, ...]:
    found = []
    rules = fields.items(name, limit=MAX_RULES) if fields.has(name) else ()
    for number, rule in enumerate(rules):
        place = f"{fields.what}.{name}[{number}]"
        # check 4.82: a rule is a list of words
        if not isinstance(rule, list):
            raise _malformed(f"{place} is not a list of strings")
        try:
            found.append(ArtifactRule.parse(rule))
        except FormatError as why:
            raise _malformed(f"{place}: {why}") from why
    return tuple(found)


def _keys(fields: Fields) -> dict[str, Key]:
    # check 4.83: bounded work for each signature
    if len(fields.value) > MAX_KEYS:
        raise _malformed(f"{fields.what} has more than {MAX_KEYS} keys")
    return {keyid: _key(keyid, fields.object(keyid)) for keyid in fields.value}


def _key(keyid: str, fields: Fields) -> Key:
    from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, SSlibKey

    what = f"key {plain(keyid[:12])} of {fields.what.partition('.')[0]}"
    # check 4.84: ids are labels, and one label names one key
    if _KEYID.fullmatch(keyid) is None or (
        fields.has("keyid") and fields.text("keyid") != keyid
    ):
        raise _malformed(f"{what} is not listed under its own key id")
    # Of old tools; means nothing. Go writes null for none.
    if fields.has("keyid_hash_algorithms") and (
        fields.value["keyid_hash_algorithms"] is not None
    ):
        fields.items("keyid_hash_algorithms", limit=8)
    kind, scheme = fields.text("keytype"), fields.text("scheme")
    value = fields.object("keyval")
    public = value.text("public")
    for name in ("private", "certificate"):
        # check 4.85: a layout is public, and certificates are not judged here
        if value.has(name) and value.text(name):
            raise _malformed(f"{what} holds a {name}")
    value.done()
    fields.done()
    key = SSlibKey(keyid, kind, scheme, {"public": public})
    # check 4.86: a key that can verify nothing is no functionary
    if KEY_FOR_TYPE_AND_SCHEME.get((kind, scheme)) is not SSlibKey:
        raise _malformed(f"{what} has type {kind[:40]!r} and scheme {scheme[:40]!r}")
    try:
        material(key)
        found = SSlibKey.from_crypto(key._crypto_key())  # noqa: SLF001 - no public reader
    except (KeyFormatError, ValueError) as why:
        raise _malformed(f"{what} can't be read") from why
    # check 4.101: nor is one of another kind than it says
    if scheme != found.scheme and not kind == found.keytype == "rsa":
        raise _malformed(f"{what} is for {found.scheme!r}, and says {scheme[:40]!r}")
    return key


def _no_certificates(fields: Fields, *names: str) -> None:
    for name in names:
        # check 4.87: certificates (ITE-7) would name functionaries that we don't count
        if fields.has(name) and fields.value[name]:
            raise _malformed(f"{fields.what} has {name}, which are not supported")


def _without_null(value: dict[str, Any]) -> dict[str, Any]:
    """Return a layout without the nulls that Go writes for empty lists and maps."""
    found: dict[str, Any] = _filled(value)
    if isinstance(found.get("steps"), list):
        found["steps"] = [_filled(one) for one in found["steps"]]
    if isinstance(found.get("keys"), dict):
        found["keys"] = {name: _filled(one) for name, one in found["keys"].items()}
    return found


def _filled(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if one is not None}


def _malformed(text: str) -> ProvenanceError:
    return ProvenanceError(text, reason="layout-malformed")
