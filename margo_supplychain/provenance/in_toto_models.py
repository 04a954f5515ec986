"""Links and layouts as in-toto's own models write them: for authors, never on a device.

What in-toto's validation does not take is not written. This is the one module that
imports in_toto; readers are this package's own (docs/adr/0022-provenance.md). A payload
is what an envelope signs: sorted JSON in ASCII, the same for the same values.

Example:
    >>> made = {"web.tgz": {"sha256": "00" * 32}}
    >>> link_payload("build", materials={}, products=made, command=["make"])[:16]
    b'{"_type": "link"'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from in_toto.models.common import Signable
    from securesystemslib.signer import Key


class PlannedStep(NamedTuple):
    """One step of a layout that is about to be written.

    Args:
        name: what its links are called.
        keyids: functionaries, by the ids that the layout's keys have.
        threshold: how many of them must agree.
        materials: rules of what goes in, each as in-toto's list of words.
        products: rules of what comes out.
        command: what is expected to be run; in-toto only warns of another.
    """

    name: str
    keyids: Sequence[str]
    threshold: int
    materials: Sequence[Sequence[str]]
    products: Sequence[Sequence[str]]
    command: Sequence[str] = ()


def link_payload(
    name: str,
    *,
    materials: Mapping[str, Mapping[str, str]],
    products: Mapping[str, Mapping[str, str]],
    command: Sequence[str] = (),
    byproducts: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a link of in-toto's as the payload of an envelope.

    Args:
        name: the step.
        materials: what went in: artifact name to digests by algorithm, in hex.
        products: what came out.
        command: what was run; empty if nobody ran anything.
        byproducts: what else it left, such as `return-value`.
        environment: what was asked to be recorded of it.

    Raises:
        MetadataFormatError: in-toto does not take it.
    """
    from in_toto.models.link import Link
    from securesystemslib.exceptions import FormatError

    try:
        link = Link(  # type: ignore[no-untyped-call]  # in_toto has no annotations
            name=name,
            materials=_plain(materials),
            products=_plain(products),
            command=list(command),
            byproducts=dict(byproducts or {}),
            environment=dict(environment or {}),
        )
    except (FormatError, ValueError) as why:
        raise MetadataFormatError(f"link of step {name!r:.80}: {_line(why)}") from why
    return _payload(link)


def layout_payload(
    steps: Iterable[PlannedStep],
    *,
    keys: Mapping[str, Key],
    expires: datetime,
    readme: str = "",
) -> bytes:
    """Return a layout of in-toto's, without inspections, as an envelope's payload.

    What in-toto takes may still prove nothing: `provenance.lint` looks.

    Args:
        steps: in the order of the layout.
        keys: the functionaries' public keys by the ids that the steps name.
        expires: when the layout ends, unless the publisher's policy says later.
        readme: for people.

    Raises:
        MetadataFormatError: in-toto does not take it.
    """
    from in_toto.models.layout import Layout, Step
    from securesystemslib.exceptions import FormatError

    try:
        layout = Layout(  # type: ignore[no-untyped-call]  # in_toto has no annotations
            steps=[
                Step(  # type: ignore[no-untyped-call]  # likewise
                    name=each.name,
                    pubkeys=list(each.keyids),
                    threshold=each.threshold,
                    expected_materials=[list(rule) for rule in each.materials],
                    expected_products=[list(rule) for rule in each.products],
                    expected_command=list(each.command),
                )
                for each in steps
            ],
            inspect=[],
            keys={
                # in-toto wants the id inside the key too.
                keyid: key.to_dict() | {"keyid": keyid}
                for keyid, key in keys.items()
            },
            expires=format_time(expires),
            readme=readme,
        )
    except (FormatError, ValueError) as why:
        raise MetadataFormatError(f"layout: {_line(why)}") from why
    return _payload(layout)


def _plain(artifacts: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: dict(digests) for name, digests in artifacts.items()}


def _payload(signable: Signable) -> bytes:
    from in_toto.models.metadata import Envelope

    return bytes(Envelope.from_signable(signable).payload)


def _line(why: Exception) -> str:
    return " ".join(str(why).split())[:300]
