"""Any JSON in the place of any other: a verdict comes out, never another error."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.provenance.chain import LinkFile
from margo_supplychain.provenance.layouts import parse_layout
from margo_supplychain.provenance.lint import lint
from tests.provenance.chains import pipeline, reasons
from tests.world import provenance as world

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["*", "REQUIRE", "MATCH", "release/manifest", "layout", "build"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=6), inner, max_size=3),
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, one in value.items():
            found += places(one, (*path, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            found += places(one, (*path, number))
    return found


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = by
    return changed


@settings(max_examples=300)
@given(st.data(), values)
def test_layouts(data: st.DataObject, value: Any) -> None:
    layout = pipeline().layout
    path = data.draw(st.sampled_from(places(layout)))
    payload = json.dumps(replaced(layout, path, value)).encode()
    reason = None
    try:
        found = parse_layout(payload, what="layout 1")
        lint(found, support_until=found.expires)
    except ProvenanceError as why:
        reason = why.reason
    expected = ("layout-malformed", "layout-empty", "layout-threshold", "inspection")
    assert reason in (None, *expected)


@settings(max_examples=300)
@given(st.data(), values, st.booleans())
def test_links(data: st.DataObject, value: Any, second: bool) -> None:
    pipe = pipeline()
    number = int(second)
    step, link, who = pipe.links[number]
    path = data.draw(st.sampled_from(places(link)))
    changed = json.dumps(replaced(link, path, value)).encode()
    pipe.links[number] = (step, changed, who)
    result = pipe.ours(files=[_file(*one) for one in pipe.links])
    assert json.loads(json.dumps(result.trace)) == result.trace
    if changed != json.dumps(link).encode() and result.findings:
        assert all(one.text and one.reason for one in result.findings)
    # What nothing compares: command, byproducts, environment, the first materials.
    elif path[0] not in ("command", "byproducts", "environment", "materials"):
        assert replaced(link, path, value) == link


def _file(step: str, payload: Any, who: tuple[str, ...]) -> LinkFile:
    data = world.envelope(payload, *who)
    return LinkFile(step, Digest.of(data), data)


@given(st.data(), values)
def test_envelopes(data: st.DataObject, value: Any) -> None:
    pipe = pipeline()
    build, package = pipe.files()
    raw = json.loads(build.data)
    path = data.draw(st.sampled_from(places(raw)))
    bad = json.dumps(replaced(raw, path, value)).encode()
    result = pipe.ours(files=[LinkFile("build", Digest.of(bad), bad), package])
    if path[-1] != "keyid" and replaced(raw, path, value) != raw:
        assert reasons(result)[0] in ("envelope", "signature")


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_flipped_bits(place: int, bit: int) -> None:
    """Of an envelope: either the same link, or none."""
    pipe = pipeline()
    build, package = pipe.files()
    data = bytearray(build.data)
    data[place % len(data)] ^= 1 << bit
    bad = LinkFile("build", Digest.of(bytes(data)), bytes(data))
    result = pipe.ours(files=[bad, package])
    if result.findings:
        assert reasons(result)[0] in ("envelope", "signature")
    else:
        assert result.steps[0].functionaries == (world.keyid("builder"),)
