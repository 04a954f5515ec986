"""What in-toto's own models take is written, the same bytes for the same values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from in_toto.models.metadata import Envelope
from securesystemslib.signer import CryptoSigner

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.provenance.in_toto_models import (
    PlannedStep,
    layout_payload,
    link_payload,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
FILE = {"dist/web.tgz": {"sha256": "00" * 32}}


def read(payload: bytes) -> Any:
    """Read as in-toto does."""
    envelope = Envelope(
        payload=payload, payload_type="application/vnd.in-toto+json", signatures={}
    )
    return envelope.get_payload()


def test_in_toto_reads_a_link_as_it_was_meant() -> None:
    payload = link_payload(
        "build",
        materials={},
        products=FILE,
        command=["make"],
        byproducts={"return-value": 0},
        environment={"variables": ["LANG=C"]},
    )
    link = read(payload)
    assert (link.name, link.command) == ("build", ["make"])
    assert (link.materials, link.products) == ({}, FILE)
    assert link.byproducts == {"return-value": 0}
    assert link.environment == {"variables": ["LANG=C"]}


def test_the_same_values_are_the_same_bytes() -> None:
    one = {"b": {"sha256": "00"}, "a": {"sha256": "01"}}
    other = dict(reversed(one.items()))
    assert link_payload("build", materials=one, products={}) == link_payload(
        "build", materials=other, products={}
    )


def test_in_toto_reads_a_layout_as_it_was_meant() -> None:
    key = CryptoSigner.generate_ecdsa().public_key
    step = PlannedStep(
        "build",
        keyids=[key.keyid],
        threshold=1,
        materials=(("DISALLOW", "*"),),
        products=(("REQUIRE", "release/manifest"), ("DISALLOW", "*")),
        command=("make",),
    )
    payload = layout_payload(
        [step], keys={key.keyid: key}, expires=EXPIRES, readme="how it is made"
    )
    layout = read(payload)
    assert (layout.expires, layout.readme) == ("2030-01-01T00:00:00Z", "how it is made")
    assert layout.inspect == []
    assert layout.keys == {key.keyid: key.to_dict() | {"keyid": key.keyid}}
    (found,) = layout.steps
    assert (found.name, found.pubkeys, found.threshold) == ("build", [key.keyid], 1)
    assert found.expected_materials == [["DISALLOW", "*"]]
    assert found.expected_products == [
        ["REQUIRE", "release/manifest"],
        *[["DISALLOW", "*"]],
    ]
    assert found.expected_command == ["make"]


@pytest.mark.parametrize(
    ("materials", "byproducts", "message"),
    [
        ({"a": {"sha256": "zz"}}, {}, "link of step 'build': expected hex string"),
        ({"\udcff": {"sha256": "00"}}, {}, "surrogates not allowed"),
        ({}, {"took": 1.5}, "I cannot encode 1.5"),
    ],
)
def test_what_in_toto_does_not_take_is_no_link(
    materials: Mapping[str, Mapping[str, str]],
    byproducts: Mapping[str, Any],
    message: str,
) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        link_payload("build", materials=materials, products={}, byproducts=byproducts)


def test_what_in_toto_does_not_take_is_no_layout() -> None:
    step = PlannedStep("build", ["00"], 1, materials=[["PERMIT", "*"]], products=[])
    with pytest.raises(
        MetadataFormatError, match=r"^layout: Wrong rule format"
    ) as found:
        layout_payload([step], keys={}, expires=EXPIRES)
    assert "\n" not in str(found.value)


def test_a_layout_is_written_as_json_is() -> None:
    payload = layout_payload([], keys={}, expires=EXPIRES)
    assert json.loads(payload)["_type"] == "layout"
    assert payload.isascii()
