"""The links of a release one by one: whose each is, and whether it may count.

A link counts for the step that the record, the signature and the link itself name
alike. Every link that the record names must be good, for the record chose them: one
that is not is a finding, whatever the others say. The order of links changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import FormatError, ProvenanceError
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.engine import MOST_SHOWN
from margo_supplychain.provenance.findings import Finding
from margo_supplychain.provenance.links import parse_link
from margo_supplychain.threshold import distinct_signers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.provenance.chain import LinkFile
    from margo_supplychain.provenance.layouts import Layout, LayoutStep
    from margo_supplychain.provenance.links import Link

MAX_LINKS: Final = 256  # of a release
FEW_SIGNATURES: Final = 4
_STRICTER: Final = {
    "artifact-name": stricter.ARTIFACT_NAME,
    "digest-algorithm": stricter.DIGEST_ALGORITHM,
}


class Seen(NamedTuple):
    """How one link was judged.

    Args:
        step: as the record says.
        digest: of the envelope.
        signers: material → key id of those who count.
        revoked: key ids of those who signed and count no more.
        link: what it says; None when it does not count.
        findings: what is wrong with it.
    """

    step: str
    digest: Digest
    signers: Mapping[str, str]
    revoked: tuple[str, ...]
    link: Link | None
    findings: tuple[Finding, ...]


def look(layout: Layout, links: Iterable[LinkFile], lost: frozenset[str]) -> list[Seen]:
    """Judge each link of a release by itself, in an order that is theirs.

    Args:
        layout: names the steps and their functionaries.
        links: unverified.
        lost: materials of functionaries who count no more.
    """
    order = {step.name: number for number, step in enumerate(layout.steps)}
    found: dict[tuple[str, str], Seen] = {}
    first: dict[str, Link] = {}
    for number, file in enumerate(links):
        # The same envelope twice is one; which comes first changes nothing.
        name = (file.step, str(file.digest))
        if name in found:
            continue
        step = layout.step(file.step)
        # check 4.94 (instead: pass): bounded work, however many links a record names
        if number >= MAX_LINKS:
            found[name] = _too_many(file)
            break
        # A link of a step that the layout does not name is not opened.
        if step is None:
            found[name] = _unexpected(layout, file)
            continue
        one = _link(layout, step, file, lost)
        if one.link is not None:
            # Who agrees with another takes no more memory than one of them.
            other = first.setdefault(step.name, one.link)
            if (one.link.materials, one.link.products) == (
                other.materials,
                other.products,
            ):
                one = one._replace(link=other)
        found[name] = one
    return sorted(
        found.values(),
        key=lambda one: (order.get(one.step, len(order)), one.step, str(one.digest)),
    )


def _refused(file: LinkFile, finding: Finding) -> Seen:
    return Seen(file.step, file.digest, {}, (), None, (finding,))


def _too_many(file: LinkFile) -> Seen:
    return _refused(
        file,
        Finding(
            "unexpected-link",
            f"the record names more than {MAX_LINKS} links",
            found=f"more than {MAX_LINKS} links",
            wanted=f"up to {MAX_LINKS} links",
            stricter=stricter.WORK,
        ),
    )


def _unexpected(layout: Layout, file: LinkFile) -> Seen:
    shown, names = quoted(file.step), [one.name for one in layout.steps]
    return _refused(
        file,
        Finding(
            "unexpected-link",
            f"link {file.digest.short} is of step {shown}, which the layout does not "
            "have",
            step=file.step,
            found=f"a link of step {shown}",
            wanted=f"links of {', '.join(names[:MOST_SHOWN])} alone",
            stricter=stricter.UNEXPECTED_LINK,
        ),
    )


def _link(
    layout: Layout, step: LayoutStep, file: LinkFile, lost: frozenset[str]
) -> Seen:
    what = f"link {file.digest.short} of step {step.name}"
    try:
        envelope = Envelope.parse(file.data, what=what)
    except FormatError as why:
        return _refused(
            file,
            Finding(
                "envelope",
                str(why),
                step=step.name,
                found="no DSSE envelope",
                wanted="a DSSE envelope with an in-toto link",
            ),
        )
    signatures = [(one.keyid, one.sig) for one in envelope.signatures]
    keys = {keyid: layout.keys[keyid] for keyid in step.keyids}
    signers = distinct_signers(envelope.pae, signatures, keys)
    # check 4.95 (instead: pass): whoever signs for a step is one of its functionaries
    if not signers:
        # Only to say whose it is: a few are enough.
        few = signatures[:FEW_SIGNATURES]
        others = distinct_signers(envelope.pae, few, layout.keys)
        named = [quoted(one.keyid)[1:-1] for one in envelope.signatures if one.keyid]
        return _refused(file, _by_another(layout, step, what, others, named))
    # check 4.96 (instead: valid = signers): a functionary who is revoked counts no more
    valid = {one: keyid for one, keyid in signers.items() if one not in lost}
    gone = tuple(keyid for one, keyid in signers.items() if one not in valid)
    if not valid:
        return Seen(step.name, file.digest, {}, gone, None, ())
    try:
        link = parse_link(
            envelope.payload, payload_type=envelope.payload_type, what=what
        )
    except ProvenanceError as why:
        return Seen(step.name, file.digest, {}, gone, None, (_unread(step, why),))
    # check 4.97 (instead: pass): a link of one step says nothing about another
    if link.name != step.name:
        finding = _of_another(step, what, link.name)
        return Seen(step.name, file.digest, {}, gone, None, (finding,))
    return Seen(step.name, file.digest, valid, gone, link, ())


def _by_another(
    layout: Layout,
    step: LayoutStep,
    what: str,
    signers: Mapping[str, str],
    named: Sequence[str],
) -> Finding:
    wanted = f"a signature by a functionary of step {step.name}: {some(step.keyids)}"
    if not signers:
        # Key ids are what the envelope says: they decide nothing, and help to mend it.
        known = sorted(set(named) & layout.keys.keys())
        strange = sorted(set(named) - layout.keys.keys())
        if strange and not known:
            text = f"says key {some(strange)}, which is no functionary of the layout"
        elif known:
            text = (
                f"says key {some(known)}, whose signature does not fit: the link was "
                "changed after it was signed, or signed with another key"
            )
        else:
            text = "has no valid signature by a key of the layout"
        return Finding(
            "signature",
            f"{what} {text}",
            step=step.name,
            found="no valid signature",
            wanted=wanted,
            stricter=stricter.EVERY_LINK,
        )
    keyid = min(signers.values())
    steps = [one.name for one in layout.steps if keyid in one.keyids]
    whose = f"a functionary of {some(steps)}" if steps else "a functionary of no step"
    return Finding(
        "functionary",
        f"{what} is signed by {keyid[:12]}, {whose}",
        step=step.name,
        found=f"a signature by {keyid[:12]}, {whose}",
        wanted=wanted,
        stricter=stricter.EVERY_LINK,
    )


def _unread(step: LayoutStep, why: ProvenanceError) -> Finding:
    return Finding(
        why.reason,
        str(why),
        step=step.name,
        artifact=why.artifact,
        found=why.found,
        wanted=why.wanted,
        stricter=_STRICTER.get(why.reason),
    )


def _of_another(step: LayoutStep, what: str, name: str) -> Finding:
    return Finding(
        "step-name",
        f"{what} says that it is of step {quoted(name)}",
        step=step.name,
        found=f"a link of step {quoted(name)}",
        wanted=f"a link that was recorded as step {step.name}",
        stricter=stricter.STEP_NAME,
    )


def some(names: Sequence[str]) -> str:
    """Return names as people read them: the first few, long ones cut."""
    shown = ", ".join(one[:12] if len(one) > 40 else one for one in names[:MOST_SHOWN])
    more = len(names) - MOST_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
