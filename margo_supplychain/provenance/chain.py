"""Whether the links of a release are the chain that its layout demands.

Pure: the caller has checked that the layout is the publisher's and good for this
release, and that each link has the digest that the record pins. All findings are
collected and nothing is raised; no finding means that the chain is proven. Order of the
links changes nothing. The steps of the plan (architecture, step 4):

1. The layout has not expired.
2. Each link is an envelope signed by a functionary of its step, who is not revoked, and
   says that step's name.
3. Each step has links by as many distinct keys as its threshold, and they agree.
4. The rules account for every material and product of every step.
5. Every step is joined with the release step by content.
6. The products of the release step are this release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.formats.release_products import (
    COMPONENTS,
    MANIFEST_PRODUCT,
    RECORD_PRODUCT,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.agreement import Difference, agreement
from margo_supplychain.provenance.artifacts import (
    by_algorithm,
    has_content,
    shown_hashes,
)
from margo_supplychain.provenance.engine import (
    MOST_SHOWN,
    Edge,
    Judged,
    Made,
    Work,
    judge,
)
from margo_supplychain.provenance.findings import Finding
from margo_supplychain.provenance.revocation import revoked_materials
from margo_supplychain.provenance.signed_links import look, some
from margo_supplychain.provenance.trace import MOST_FINDINGS, MOST_PRODUCTS, trace_of
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.provenance.artifacts import Hashes
    from margo_supplychain.provenance.layouts import Layout, LayoutStep
    from margo_supplychain.provenance.rules import ArtifactRule, Side
    from margo_supplychain.provenance.signed_links import Seen


class LinkFile(NamedTuple):
    """One envelope that the record names; the caller checked its digest.

    Args:
        step: which step the record says it is for.
        digest: of `data`.
        data: unverified.
    """

    step: str
    digest: Digest
    data: bytes


class ReleaseFacts(NamedTuple):
    """The release that must have been made.

    Args:
        artifact: digest of its manifest or index.
        products: each product of the release step, by its fixed name
            (`formats.release_products`).
    """

    artifact: Digest
    products: Mapping[str, Digest]


class StepProof(NamedTuple):
    """What one step proves.

    Args:
        name: of the step.
        functionaries: key ids whose links count, one for each distinct key.
        materials: the same keys, by material.
        links: digests of the links that count.
    """

    name: str
    functionaries: tuple[str, ...]
    materials: frozenset[str]
    links: tuple[Digest, ...]


class ChainResult(NamedTuple):
    """The verdict: proven when there is no finding.

    Args:
        steps: in the layout's order.
        functionaries: every distinct key that counted, by material.
        findings: everything that is wrong, causes first.
        trace: how each link and rule was judged, bounded and ready for JSON.
        work: characters of names that its rules looked at (`engine.MAX_WORK`).
    """

    steps: tuple[StepProof, ...]
    functionaries: frozenset[str]
    findings: tuple[Finding, ...]
    trace: dict[str, Any]
    work: int = 0


def verify_chain(
    layout: Layout,
    links: Iterable[LinkFile],
    release: ReleaseFacts,
    *,
    now: datetime,
    expires: datetime,
    revoked: Mapping[str, frozenset[Digest]],
) -> ChainResult:
    """Judge the links of a release by its layout.

    Args:
        layout: the publisher's, good for this release; its own expiry is not read.
        links: unverified envelopes, each read once, in any order.
        release: what must have been made.
        now: trusted time.
        expires: the layout's expiry, or what the publisher policy puts in its place.
        revoked: functionaries who count no more, by key id or material, each with the
            releases for which they still do, by their `RECORD_PRODUCT`.
    """
    findings: list[Finding] = []
    # check 4.89: a layout past its expiry demands what nobody stands for any more
    if now >= expires:
        findings.append(_expired(layout, now, expires))
    lost = revoked_materials(layout.keys, revoked, release.products.get(RECORD_PRODUCT))
    seen = look(layout, links, lost)
    for one in seen:
        # check 4.90: the record names good links alone
        findings.extend(one.findings)
    made, proofs = _agreed(layout, seen, findings)
    judged: list[tuple[str, Side, Judged]] = []
    work = Work()
    for step in layout.steps:
        if step.name not in made:
            continue
        for side, rules in _sides(step):
            if work.is_spent:
                break
            found = judge(step.name, side, rules, made, work)
            judged.append((step.name, side, found))
            # check 4.91: what the rules refuse is refused
            findings.extend(found.findings)
    found_edges = [one for _, _, found in judged for one in found.edges]
    idle = _idle(layout, found_edges, made)
    edges = _merged(found_edges)
    joined = _joined(layout, edges) - idle.keys()
    # What was not judged is refused already, and joins nothing.
    if not work.is_spent:
        # check 4.92: a step that passed nothing on proves nothing about this release
        findings.extend(_unconnected(layout, joined, made, idle))
    last = made.get(layout.release_step)
    demanded = {**release.products, MANIFEST_PRODUCT: release.artifact}
    if last is not None:
        # check 4.93: what was made is this release
        findings.extend(_other_release(layout, demanded, last.products))
    return ChainResult(
        steps=proofs,
        functionaries=frozenset().union(*(one.materials for one in proofs)),
        findings=tuple(findings[:MOST_FINDINGS]),
        trace=trace_of(layout, seen, judged, edges, joined, findings)
        | {"release": _compared(layout, demanded, last)},
        work=work.taken,
    )


def _sides(step: LayoutStep) -> Iterator[tuple[Side, Sequence[ArtifactRule]]]:
    yield "materials", step.materials
    yield "products", step.products


def _expired(layout: Layout, now: datetime, expires: datetime) -> Finding:
    own = "" if layout.expires == expires else " by the publisher policy"
    return Finding(
        "layout-expired",
        f"the layout expired{own} at {format_time(expires)}",
        found=f"expired at {format_time(expires)}, it is {format_time(now)}",
        wanted="a later expires for this layout in the publisher policy",
        stricter=stricter.OVERRIDE if now < layout.expires else None,
    )


# --- steps ---------------------------------------------------------------------------


def _agreed(
    layout: Layout, seen: Sequence[Seen], findings: list[Finding]
) -> tuple[dict[str, Made], tuple[StepProof, ...]]:
    made: dict[str, Made] = {}
    proofs = []
    for step in layout.steps:
        mine = [one for one in seen if one.step == step.name]
        good = [(one, one.link) for one in mine if one.link is not None]
        signers: dict[str, str] = {}
        for one, _ in good:
            signers.update(one.signers)
        # check 4.98: as many distinct keys as the layout demands
        if len(signers) < step.threshold:
            findings.append(_too_few(layout, step, mine, signers))
        found, differing = agreement([(one.digest, link) for one, link in good])
        if found is not None:
            made[step.name] = found
        again = sum(len(one.signers) for one, _ in good) > len(signers)
        # check 4.99: who did the same step says the same
        if differing is not None:
            findings.append(_disagree(step, differing, again=again))
        proofs.append(
            StepProof(
                name=step.name,
                functionaries=tuple(sorted(signers.values())),
                materials=frozenset(signers),
                links=tuple(one.digest for one, _ in good),
            )
        )
    return made, tuple(proofs)


def _too_few(
    layout: Layout, step: LayoutStep, mine: Sequence[Seen], signers: Mapping[str, str]
) -> Finding:
    gone = sorted({keyid for one in mine for keyid in one.revoked})
    left = [
        keyid
        for keyid in step.keyids
        if keyid not in gone and material(layout.keys[keyid]) not in signers
    ]
    lack = step.threshold - len(signers)
    more = " more" if signers else ""
    need = f"1{more} link" if lack == 1 else f"{lack}{more} links by several"
    wanted = f"{need} of {some(left) or 'nobody else'}"
    if not mine:
        return Finding(
            "missing-step",
            f"step {step.name} has no link",
            step=step.name,
            found="no link",
            wanted=wanted,
        )
    text = (
        f"step {step.name} was done by {len(signers)} of {step.threshold} functionaries"
    )
    found = f"good links by {len(signers)} distinct key{'s'[: len(signers) != 1]}"
    if signers:
        found += f": {some(sorted(signers.values()))}"
    if gone:
        text += f"; {some(gone)} is revoked"
        wanted += ", or this artifact among those that survive the revocation"
    return Finding(
        "revoked" if gone else "threshold",
        text,
        step=step.name,
        found=found,
        wanted=wanted,
        stricter=stricter.REVOKED if gone else None,
    )


def _disagree(step: LayoutStep, differing: Difference, *, again: bool) -> Finding:
    return Finding(
        "links-disagree",
        f"links of step {step.name} disagree about {differing.text}",
        step=step.name,
        artifact=differing.artifact,
        found=differing.found,
        wanted="the same materials and products in the links of all functionaries",
        stricter=stricter.ALL_AGREE if step.threshold == 1 or again else None,
    )


# --- the chain -----------------------------------------------------------------------


def _merged(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """Return one edge for each two steps and direction."""
    found: dict[tuple[str, str], Edge] = {}
    for one in edges:
        name = (one.source, one.target)
        other = found.get(name, one._replace(artifacts=0))
        found[name] = one._replace(
            artifacts=one.artifacts + other.artifacts,
            example=min(one.example, other.example),
        )
    return tuple(found[name] for name in sorted(found))


def _joined(layout: Layout, edges: Iterable[Edge]) -> frozenset[str]:
    """Return the steps that are joined with the release step, in any direction."""
    beside: dict[str, set[str]] = {step.name: set() for step in layout.steps}
    for edge in edges:
        beside[edge.source].add(edge.target)
        beside[edge.target].add(edge.source)
    found = {layout.release_step}
    waiting = [layout.release_step]
    while waiting:
        new = beside[waiting.pop()] - found
        found |= new
        waiting += new
    return frozenset(found)


def _idle(
    layout: Layout, edges: Iterable[Edge], made: Mapping[str, Made]
) -> dict[str, str]:
    """Return steps that made something which went nowhere: step → one product.

    Materials in common are no sign that their links are of one run: two runs start from
    the same commit. A step that makes nothing is told by what it looked at; one that
    makes something, by what is taken of it, or what it takes of what others made.
    """
    passing = {
        name
        for one in edges
        if one.side == "products"
        for name in (one.source, one.target)
    }
    found = {}
    for step in layout.steps:
        links = made.get(step.name)
        if links is None or step.name in passing or step.name == layout.release_step:
            continue
        products = [one for one, what in links.products.items() if has_content(what)]
        # check 4.102: links of two runs of one commit are not mixed
        if products:
            found[step.name] = min(products)
    return found


def _unconnected(
    layout: Layout,
    joined: frozenset[str],
    made: Mapping[str, Made],
    idle: Mapping[str, str],
) -> Iterator[Finding]:
    for step in layout.steps:
        if step.name in idle:
            yield Finding(
                "unconnected",
                f"nothing that step {step.name} made is part of the release",
                step=step.name,
                artifact=idle[step.name],
                found=f"product {quoted(idle[step.name])}, which no other step took",
                wanted=f"a MATCH rule WITH PRODUCTS FROM {step.name} that consumes an "
                "artifact, and links of one run of the pipeline",
                stricter=stricter.CONNECTED,
            )
        elif step.name in made and step.name not in joined:
            rules = [
                f'"{rule.text}" of step {other.name}'
                for other in layout.steps
                for rule in (*other.materials, *other.products)
                if rule.step is not None
                and rule.step != other.name
                and step.name in (other.name, rule.step)
            ]
            yield Finding(
                "unconnected",
                f"step {step.name} shares no content with the release",
                step=step.name,
                found=f"nothing with content for {', '.join(rules[:MOST_SHOWN])}"
                if rules
                else "no MATCH rule between it and another step",
                wanted="a MATCH rule that consumes an artifact with content, between "
                f"it and a step that is joined with step {layout.release_step}",
                stricter=stricter.CONNECTED,
            )


def _other_release(
    layout: Layout, demanded: Mapping[str, Digest], products: Mapping[str, Hashes]
) -> Iterator[Finding]:
    parts = list(_other_parts(layout, demanded, products))
    yield from parts
    wanted = demanded.get(RECORD_PRODUCT)
    # Where a part differs, what the record says of it differs, too: said once.
    if parts or wanted is None:
        return
    hashes = products.get(RECORD_PRODUCT)
    # check 4.103: what no manifest says: version, images, names of components
    if not _is(hashes, wanted):
        yield _other_record(layout.release_step, wanted, hashes)


def _other_record(step: str, wanted: Digest, hashes: Hashes | None) -> Finding:
    if hashes is None:
        text = (
            f"step {step} recorded no {quoted(RECORD_PRODUCT)}, so nothing proves the "
            "release's version, components and images"
        )
    else:
        text = (
            f"the release's record says something else than what step {step} recorded: "
            "another version, other images or components, or another type"
        )
    return Finding(
        "release-product",
        text,
        step=step,
        artifact=RECORD_PRODUCT,
        found="no such product" if hashes is None else shown_hashes(hashes),
        wanted=f"{wanted}, which `attest run --release DIST` records of the release "
        "that is published",
        stricter=stricter.RELEASE_PRODUCT,
    )


def _other_parts(
    layout: Layout, demanded: Mapping[str, Digest], products: Mapping[str, Hashes]
) -> Iterator[Finding]:
    step = layout.release_step
    for name, digest in sorted(demanded.items()):
        hashes = products.get(name)
        if name == RECORD_PRODUCT or _is(hashes, digest):
            continue
        found = "no such product" if hashes is None else shown_hashes(hashes)
        yield Finding(
            "release-product",
            f"step {step} did not make this release: product {quoted(name)} is "
            f"{digest.algorithm}:{digest.short} in the release, {found} in its links",
            step=step,
            artifact=name,
            found=found,
            wanted=str(digest),
            stricter=stricter.RELEASE_PRODUCT,
        )
    # check 4.100 (instead: extra = []): what the step made for a release is all in it
    extra = [
        one for one in products if one.startswith(COMPONENTS) and one not in demanded
    ]
    if extra:
        name = min(extra)
        yield Finding(
            "release-product",
            f"step {step} made {quoted(name)}, which the release does not have",
            step=step,
            artifact=name,
            found=f"{len(extra)} components that are not in the release",
            wanted="links that were recorded for exactly this release",
            stricter=stricter.RELEASE_PRODUCT,
        )


def _is(hashes: Hashes | None, digest: Digest) -> bool:
    return hashes is not None and (
        by_algorithm(hashes).get(digest.algorithm) == digest.hex
    )


def _compared(
    layout: Layout, demanded: Mapping[str, Digest], last: Made | None
) -> dict[str, Any]:
    """Return how the release was compared with its step, what differs first."""
    products = {} if last is None else last.products
    rows = [
        {
            "name": name,
            "outcome": "passed" if _is(products.get(name), digest) else "failed",
            "wanted": str(digest),
            "found": None if name not in products else shown_hashes(products[name]),
        }
        for name, digest in sorted(demanded.items())
    ]
    rows.sort(key=lambda one: one["outcome"] == "passed")
    return {
        "step": layout.release_step,
        "artifact": str(demanded[MANIFEST_PRODUCT]),
        "products": rows[:MOST_PRODUCTS],
    }
