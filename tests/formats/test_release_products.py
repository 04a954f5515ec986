"""The products that name a release: fixed, distinct, and always proper paths."""

from __future__ import annotations

from dataclasses import replace

import pytest

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.release_parts import Component
from margo_supplychain.formats.release_products import (
    component_product,
    release_products,
)
from margo_supplychain.provenance.artifacts import check_names
from tests.formats.test_record import RECORD


def component(profile: str, name: str) -> Component:
    return Component(
        name=name,
        profile=profile,
        profile_type="helm",
        repository="oci://example.com/x",
        revision="1",
        content=Descriptor.of(f"{profile} {name}".encode(), MANIFEST),
    )


def test_products() -> None:
    parts = (component("helm-v3", "web"), component("compose", "web"))
    record = replace(RECORD, components=parts)
    assert release_products(record) == {
        "release/manifest": record.artifact.digest,
        "release/record": Digest.of(record.identity()),
        "release/components/helm-v3/web": parts[0].content.digest,
        "release/components/compose/web": parts[1].content.digest,
    }
    assert release_products(replace(RECORD, components=())).keys() == {
        "release/manifest",
        "release/record",
    }


@pytest.mark.parametrize(
    ("profile", "name", "expected"),
    [
        ("a/b", "c d", "release/components/a%2Fb/c%20d"),
        ("..", ".", "release/components/%2E%2E/%2E"),
        ("...", ".a", "release/components/.../.a"),
        ("a%2Fb", "*", "release/components/a%252Fb/%2A"),
        ("é", "[x]", "release/components/%C3%A9/%5Bx%5D"),
        ("a\\b", "\u0430", "release/components/a%5Cb/%D0%B0"),
    ],
)
def test_every_name_gives_a_path(profile: str, name: str, expected: str) -> None:
    found = component_product(profile, name)
    assert found == expected
    check_names([found], what="products")


def test_plain_joining_would_not_do() -> None:
    with pytest.raises(ProvenanceError):
        check_names(["release/components/../."], what="products")
