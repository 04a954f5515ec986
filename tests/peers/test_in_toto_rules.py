"""in-toto-golang's rule engine and ours agree, but where ours has a name for it.

What `tests/provenance/test_differential.py` shows to in-toto-python is shown to
in-toto-golang here: three readers of one specification.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.engine import Judged, Made, judge
from margo_supplychain.provenance.rules import ArtifactRule
from tests.provenance.chains import Pipeline, file_name, listed, pipeline
from tests.provenance.test_differential import FAULTS, artifacts, hashes, rules
from tests.world import provenance as world
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.provenance.rules import Side
    from tests.peers.intoto_clients import GoInToto
    from tests.world.provenance import Json


def asked(go: GoInToto, layout: Json, links: Mapping[str, bytes]) -> str | None:
    """Return None where in-toto-golang passes, else what it says."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for path, data in links.items():
            (place / path).write_bytes(data)
        (place / "root.layout").write_bytes(world.envelope(layout, "boss"))
        boss = key("boss").public_key
        (place / "boss.json").write_bytes(
            world.encode({"keyid": boss.keyid, **boss.to_dict()})
        )
        said = go.verify_files(place / "root.layout", place, [place / "boss.json"])
    return None if said.ok else said.error


Files = dict[str, str]


def both(
    go: GoInToto,
    side: Side,
    words: list[list[str]],
    files: tuple[Files, Files, Files, Files],
) -> tuple[str | None, Judged]:
    """Return what in-toto-golang and our engine say of a list of rules.

    Args:
        side: of the step `one`, whose rules they are.
        files: materials and products of the steps `one` and `two`.
    """
    open_rules = [("ALLOW", "*")]
    layout = world.layout(
        [
            world.step(
                "one",
                "builder",
                materials=words if side == "materials" else open_rules,
                products=words if side == "products" else open_rules,
            ),
            world.step("two", "tester", materials=open_rules, products=open_rules),
        ]
    )
    made = {"one": (files[0], files[1]), "two": (files[2], files[3])}
    links = {
        file_name(step, who): world.envelope(
            world.link(step, materials=listed(taken), products=listed(left)), who
        )
        for (step, (taken, left)), who in zip(
            made.items(), ("builder", "tester"), strict=True
        )
    }
    ours = judge(
        "one",
        side,
        [ArtifactRule.parse(one) for one in words],
        {
            step: Made(hashes(taken), hashes(left))
            for step, (taken, left) in made.items()
        },
    )
    return asked(go, layout, links), ours


@pytest.mark.parametrize("side", ["materials", "products"])
def test_rules_agree(go_in_toto: GoInToto, side: Side) -> None:
    """One list of rules for a step, and another step that it may match with."""

    @settings(max_examples=120, suppress_health_check=[HealthCheck.differing_executors])
    @given(rules, artifacts, artifacts, artifacts, artifacts)
    def check(
        words: list[list[str]],
        materials: dict[str, str],
        products: dict[str, str],
        others: dict[str, str],
        made: dict[str, str],
    ) -> None:
        # MATCH without a directory of its own side, the form that templates have.
        words = [one for one in words if one[0] != "MATCH" or one[2] == "WITH"]
        theirs, ours = both(
            go_in_toto, side, words, (materials, products, others, made)
        )
        wrong = [one for one in ours.findings if one.stricter is None]
        assert (theirs is None) == (not wrong), (theirs, ours.findings)
        named = {one.stricter for one in ours.findings} - {None}
        assert named <= {stricter.DEFAULT_DENY}

    check()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__.strip("_"))
@pytest.mark.parametrize("step", ["build", "package"])
def test_faults_agree(
    go_in_toto: GoInToto, fault: Callable[[Pipeline, str], None], step: str
) -> None:
    """One verdict of both, or a first cause that has a name."""
    pipe = pipeline()
    fault(pipe, step)
    links = {
        file_name(name, signer): world.envelope(payload, *who)
        for name, payload, who in pipe.links
        for signer in who
    }
    ours, theirs = pipe.ours(), asked(go_in_toto, pipe.layout, links)
    if theirs is not None:
        assert ours.findings, theirs
    elif ours.findings:
        assert ours.findings[0].stricter is not None, ours.findings[0]
