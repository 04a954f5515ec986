"""Which listed release a pin takes, against a plain model of the same rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import TargetFile, Targets

from margo_supplychain.errors import (
    NoMatchingVersionError,
    ReleaseFloorError,
    WithdrawnError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.formats.release_entry import ReleaseEntry
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.memory import ReleaseFloor
from margo_supplychain.verify.resolve import (
    Standing,
    listed,
    select,
    withdrawn_in,
)

if TYPE_CHECKING:
    from margo_supplychain.verify.resolve import Candidate

PUMP = ReleaseName.parse("acme/pump-monitor")


def artifact(version: str) -> Digest:
    return Digest.of(version.encode())


def releases(*versions: str, broken: frozenset[str] = frozenset()) -> Targets:
    signed = Targets()
    for version in versions:
        path = PUMP.release_path(Version.parse(version).tag)
        file = TargetFile(1, {"sha256": "0" * 64}, path)
        if version not in broken:
            entry = ReleaseEntry(artifact=artifact(version))
            file.unrecognized_fields["custom"] = entry.to_custom()
        signed.targets[path] = file
    return signed


def standing(**changes: Any) -> Standing:
    policy = {"epoch": 1, "provenance": "none", **changes.pop("policy", {})}
    values = {"floor": None, "slot": "default", "withdrawn": {}, **changes}
    return Standing(policy=PublisherPolicy(**policy), **values)


def floor(version: str, epoch: int = 1) -> ReleaseFloor:
    return ReleaseFloor(
        epoch=epoch,
        version=Version.parse(version),
        artifact=artifact(version),
        policy_signers=frozenset(),
    )


def chosen(candidates: tuple[Candidate, ...], pin: str, what: Standing) -> str:
    return str(
        select(PUMP, Pin.parse_argument(pin), candidates, what).version,
    )


def test_listed_newest_first() -> None:
    signed = releases(
        "1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1", broken=frozenset({"1.9.0"})
    )
    signed.targets["acme/releases/valve/3.0.0"] = signed.targets[
        PUMP.release_path("1.0.0")
    ]
    found = listed(signed, PUMP)
    assert [str(one.version) for one in found] == [
        "2.0.0-rc.1",
        "1.10.0",
        "1.9.0",
        "1.0.0",
    ]
    assert [one.artifact for one in found] == [
        artifact("2.0.0-rc.1"),
        artifact("1.10.0"),
        None,
        artifact("1.0.0"),
    ]
    assert withdrawn_in(found) == frozenset()


def test_the_highest_that_nothing_bars() -> None:
    found = listed(releases("1.0.0", "1.1.0", "1.2.0", "1.3.0-rc.1"), PUMP)
    assert chosen(found, "^1.0", standing()) == "1.2.0"
    assert chosen(found, ">=1.3.0-0", standing()) == "1.3.0-rc.1"
    assert chosen(found, "*", standing(withdrawn={artifact("1.2.0"): 4})) == "1.1.0"
    again = {"reinstated": (Reinstatement(artifact=artifact("1.2.0"), up_to=4),)}
    known = {artifact("1.2.0"): 4}
    assert chosen(found, "*", standing(withdrawn=known, policy=again)) == "1.2.0"
    assert (
        chosen(found, "*", standing(withdrawn={artifact("1.2.0"): 5}, policy=again))
        == "1.1.0"
    )


def test_what_bars_the_highest_is_said() -> None:
    found = listed(releases("1.0.0", "1.1.0"), PUMP)
    both = {artifact("1.0.0"): 1, artifact("1.1.0"): 1}
    with pytest.raises(WithdrawnError, match=r"1\.1\.0 is withdrawn"):
        chosen(found, "*", standing(withdrawn=both))
    with pytest.raises(ReleaseFloorError, match=r"1\.1\.0 \(epoch 1\)"):
        chosen(
            found, "*", standing(floor=floor("2.0.0"), withdrawn={artifact("1.0.0"): 1})
        )
    with pytest.raises(NoMatchingVersionError, match=r"no release inside \^3"):
        chosen(found, "^3", standing())


@given(
    st.lists(st.integers(min_value=0, max_value=6), unique=True, max_size=6),
    st.integers(min_value=0, max_value=6),
    st.integers(min_value=1, max_value=3),
    st.integers(min_value=1, max_value=3),
    st.sets(st.integers(min_value=0, max_value=6)),
    st.sets(st.integers(min_value=0, max_value=6)),
    st.integers(min_value=0, max_value=6),
)
def test_as_the_model_says(
    minors: list[int],
    lowest: int,
    epoch: int,
    floor_epoch: int,
    gone: set[int],
    down: set[int],
    minimum: int,
) -> None:
    def text(minor: int) -> str:
        return f"1.{minor}.0"

    what = standing(
        floor=floor(text(lowest), floor_epoch),
        withdrawn={artifact(text(one)): 1 for one in gone},
        policy={
            "epoch": epoch,
            "downgrade_to": tuple(artifact(text(one)) for one in sorted(down)),
            "minimum_version": Version.parse(text(minimum)),
        },
    )
    fine = [
        one
        for one in minors
        if one >= minimum
        and one not in gone
        and (one in down or (epoch, one) >= (floor_epoch, lowest))
    ]
    if epoch > floor_epoch:
        fine = [one for one in minors if one >= minimum and one not in gone]
    found = listed(releases(*(text(one) for one in minors)), PUMP)
    if fine:
        assert chosen(found, "^1.0", what) == text(max(fine))
    else:
        with pytest.raises((NoMatchingVersionError, WithdrawnError, ReleaseFloorError)):
            chosen(found, "^1.0", what)
