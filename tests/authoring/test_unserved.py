"""What an operator reads of a policy that leaves releases without a layout."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from margo_supplychain.authoring.rules import unserved
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule, PublisherPolicy
from margo_supplychain.formats.versions import Version
from tests.authoring.trust import PUMP


def what_is(version: str) -> Digest:
    return Digest.of(version.encode())


def told(one: Any) -> Digest | None:
    text = str(one.version)
    return None if text == "1.2.0" else what_is(text)


def test_what_had_none_before_is_not_said_again() -> None:
    listed: list[Any] = [
        SimpleNamespace(version=Version.parse(f"1.{minor}.0"), artifact=None)
        for minor in range(8)
    ]
    rule = LayoutRule(
        number=1, digest=Digest.of(b"layout"), range=Pin.range("^1.6", grammar="npm")
    )
    none = PublisherPolicy(epoch=1, provenance="none")
    some = PublisherPolicy(epoch=1, provenance="required", layouts=(rule,))
    bare = PublisherPolicy(epoch=1, provenance="required")
    assert unserved(PUMP, None, none, listed, release_of=told) == []
    (text,) = unserved(PUMP, none, some, listed, release_of=told)
    assert text == (
        f"devices refuse 1.0.0, 1.1.0, 1.2.0, 1.3.0, 1.4.0 and 1 more of {PUMP} from "
        "now on: no layout serves them"
    )
    assert unserved(PUMP, some, some, listed, release_of=told) == []
    assert unserved(PUMP, some, bare, listed, release_of=told) == [
        f"devices refuse 1.6.0, 1.7.0 of {PUMP} from now on: no layout serves them"
    ]
    # A superseded one serves what it names; of an unreadable record nobody knows.
    past = replace(rule, range=None, releases=(what_is("1.0.0"),))
    late = replace(some, layouts=(past,))
    assert unserved(PUMP, some, late, listed[:3], release_of=told) == []
    assert unserved(PUMP, none, late, listed[:3], release_of=told) == [
        f"devices refuse 1.1.0 of {PUMP} from now on: no layout serves them"
    ]
