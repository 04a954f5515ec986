"""in-toto-python's rule engine and ours agree, but where ours has a name for it.

Generated rules and artifacts go through `verify_item_rules` and `judge`: the queue is
the same after every rule, and in-toto refuses exactly where ours finds what is not one
of the stricter cases. Generated pipelines go through `in_toto_verify` as files, and
through `verify_chain` as the same bytes.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto import verifylib
from in_toto.exceptions import RuleVerificationError
from in_toto.models.link import Link

from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.engine import Made, judge
from margo_supplychain.provenance.rules import ArtifactRule
from tests.provenance.chains import CLOSED, MANIFEST, Pipeline, digest, pipeline
from tests.world import provenance as world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.provenance.rules import Side

NAMES = ("a", "b", "ab", "c/a", "c/b", "c/d/a", "d/a", "[a]")
PATTERNS = ("*", "a", "a*", "*a", "c/*", "?", "[ab]", "[!a]*", "*/a", "**", "d/*", "b*")
DIRECTORIES = ("c", "c/", "d", "c/d")
STEPS = ("one", "two", "none")

artifacts = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["1", "2", ""]), max_size=len(NAMES)
)
plain = st.builds(
    lambda kind, pattern: [kind, pattern],
    st.sampled_from(["CREATE", "DELETE", "MODIFY", "ALLOW", "DISALLOW", "allow"]),
    st.sampled_from(PATTERNS),
)
required = st.builds(lambda name: ["REQUIRE", name], st.sampled_from(NAMES))
directory = st.sampled_from([[], *(["IN", one] for one in DIRECTORIES)])
matching = st.builds(
    lambda pattern, source, side, prefix, step: [
        *("MATCH", pattern),
        *source,
        *("WITH", side),
        *prefix,
        *("FROM", step),
    ],
    st.sampled_from(PATTERNS),
    directory,
    st.sampled_from(["MATERIALS", "PRODUCTS", "products"]),
    directory,
    st.sampled_from(STEPS),
)
rules = st.lists(st.one_of(plain, required, matching, matching), max_size=6)


def hashes(files: Mapping[str, str]) -> dict[str, str]:
    return {name: digest(text)["sha256"] for name, text in files.items()}


def in_toto_link(name: str, materials: Any, products: Any) -> Any:
    return Link(  # type: ignore[no-untyped-call]  # in_toto has no annotations
        name=name,
        materials={one: digest(text) for one, text in materials.items()},
        products={one: digest(text) for one, text in products.items()},
    )


def in_toto_queues(
    step: str, side: str, words: Sequence[list[str]], links: Mapping[str, Any]
) -> tuple[bool, list[frozenset[str]]]:
    """Return whether in-toto passes, and its queue after each rule that it applied."""
    try:
        verifylib.verify_item_rules(step, side, words, links)  # type: ignore[no-untyped-call]  # in_toto has no annotations
        passed = True
    except RuleVerificationError:
        passed = False
    trace = verifylib.RULE_TRACE["trace"]
    return passed, [frozenset(one["queue"]) for one in trace]


@settings(max_examples=400)
@given(
    rules, artifacts, artifacts, artifacts, artifacts, st.sampled_from(["m", "p", "p"])
)
def test_rules_agree(
    words: list[list[str]],
    materials: dict[str, str],
    products: dict[str, str],
    others: dict[str, str],
    made: dict[str, str],
    which: str,
) -> None:
    side: Side = "materials" if which == "m" else "products"
    links = {
        "one": in_toto_link("one", materials, products),
        "two": in_toto_link("two", others, made),
    }
    passed, queues = in_toto_queues("one", side, words, links)
    ours = judge(
        "one",
        side,
        [ArtifactRule.parse(one) for one in words],
        {
            "one": Made(hashes(materials), hashes(products)),
            "two": Made(hashes(others), hashes(made)),
        },
    )
    wrong = [one for one in ours.findings if one.stricter is None]
    assert passed == (not wrong)
    left = len(materials if side == "materials" else products)
    applied = [one for one in ours.applied if one.rule is not None]
    assert len(applied) == len(words)
    for one, queue in zip(applied, queues, strict=False):
        assert one.passed
        left -= one.total
        assert left == len(queue)
        assert queue.isdisjoint(one.artifacts) or one.total == 0
    if passed:
        # What in-toto lets pass without a rule is all that ours adds.
        rest = queues[-1] if queues else frozenset(hashes_of(side, materials, products))
        denied = ours.applied[-1] if ours.applied[len(words) :] else None
        assert frozenset(denied.artifacts if denied else ()) == rest
        assert {one.stricter for one in ours.findings} <= {stricter.DEFAULT_DENY}
    for edge in ours.edges:
        assert (edge.source, edge.target) == ("two", "one")


def hashes_of(
    side: str, materials: dict[str, str], products: dict[str, str]
) -> dict[str, str]:
    return materials if side == "materials" else products


# --- whole pipelines -----------------------------------------------------------------

FUNCTIONARIES = ("builder", "second", "packager")


def _copy_link(pipe: Pipeline, step: str, *signers: Any) -> None:
    pipe.links.append((step, copy.deepcopy(pipe.link(step)), signers))


def _extra_product(pipe: Pipeline, step: str) -> None:
    pipe.link(step)["products"]["extra"] = digest("extra")


def _extra_open(pipe: Pipeline, step: str) -> None:
    _extra_product(pipe, step)
    if pipe.step(step)["expected_products"][-1] == list(CLOSED):
        pipe.step(step)["expected_products"].pop()


def _other_content(pipe: Pipeline, step: str) -> None:
    for name in pipe.link(step)["materials"]:
        pipe.link(step)["materials"][name] = digest("other content")


def _missing(pipe: Pipeline, step: str) -> None:
    pipe.links = [one for one in pipe.links if one[0] != step]


def _stranger(pipe: Pipeline, step: str) -> None:
    pipe.sign(step, "mallory")


def _other_step(pipe: Pipeline, step: str) -> None:
    pipe.sign(step, "packager" if step == "build" else "builder")


def _stranger_beside(pipe: Pipeline, step: str) -> None:
    _copy_link(pipe, step, "mallory")


def _wrong_name(pipe: Pipeline, step: str) -> None:
    pipe.link(step)["name"] = "elsewhere"


def _two_needed(pipe: Pipeline, step: str) -> None:
    pipe.step(step)["threshold"] = 2
    if len(pipe.step(step)["pubkeys"]) == 1:
        pipe.step(step)["pubkeys"].append(world.keyid("second"))


def _two_do_it(pipe: Pipeline, step: str) -> None:
    _two_needed(pipe, step)
    _copy_link(pipe, step, "second")


def _two_disagree(pipe: Pipeline, step: str) -> None:
    _two_do_it(pipe, step)
    pipe.links[-1][1]["products"]["out/a"] = digest("disagree")


def _one_of_two_disagrees(pipe: Pipeline, step: str) -> None:
    _two_disagree(pipe, step)
    pipe.step(step)["threshold"] = 1


def _other_key(pipe: Pipeline, step: str) -> None:
    """in-toto knows a link's key by its file name, ours by who signed."""
    pipe.sign(step, (FUNCTIONARIES[0 if step == "build" else 2], "00" * 32))


def _require_late(pipe: Pipeline, step: str) -> None:
    pipe.step(step)["expected_products"].insert(1, ["REQUIRE", "out/a"])


def _require_early(pipe: Pipeline, step: str) -> None:
    pipe.step(step)["expected_products"].insert(0, ["REQUIRE", "out/a"])


def _nothing_made(pipe: Pipeline, step: str) -> None:
    pipe.link(step)["products"].clear()


def _nothing_used(pipe: Pipeline, step: str) -> None:
    pipe.link(step)["materials"].clear()


def _strange_product(pipe: Pipeline, step: str) -> None:
    pipe.link(step)["products"][MANIFEST] = digest("other manifest")


def _unrelated_step(pipe: Pipeline, step: str) -> None:
    if any(one["name"] == "scan" for one in pipe.layout["steps"]):
        return
    scan = world.step("scan", "second", materials=[], products=[("ALLOW", "*"), CLOSED])
    pipe.layout["steps"].append(scan)
    link = world.link("scan", materials={}, products={step: digest(step)})
    pipe.links.append(("scan", link, ("second",)))


FAULTS = (
    _extra_product,
    _extra_open,
    _other_content,
    _missing,
    _stranger,
    _other_step,
    _stranger_beside,
    _wrong_name,
    _two_needed,
    _two_do_it,
    _two_disagree,
    _one_of_two_disagrees,
    _require_late,
    _require_early,
    _nothing_made,
    _nothing_used,
    _strange_product,
    _unrelated_step,
)
faults = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.sampled_from(["build", "package"])),
    max_size=3,
)


def agree(pipe: Pipeline) -> None:
    """Demand one verdict of both, or a first cause that has a name."""
    ours, theirs = pipe.ours(), pipe.theirs()
    if theirs is not None:
        assert ours.findings, theirs
    elif ours.findings:
        assert ours.findings[0].stricter is not None, ours.findings[0]


@settings(max_examples=200)
@given(faults)
def test_pipelines_agree(chosen: list[tuple[Any, str]]) -> None:
    pipe = pipeline()
    for fault, step in chosen:
        if fault is _missing or any(one[0] == step for one in pipe.links):
            fault(pipe, step)
    agree(pipe)


def test_each_fault_alone() -> None:
    """None of them is without effect: a fault that both pass is meant to be sound."""
    sound = {
        "_two_do_it build",
        "_two_do_it package",
        "_require_early build",
        # Nothing binds the sources of the first step.
        "_other_content build",
        "_nothing_used build",
    }
    passed = set()
    for fault in FAULTS:
        for step in ("build", "package"):
            pipe = pipeline()
            fault(pipe, step)
            agree(pipe)
            if not pipe.ours().findings:
                passed.add(f"{fault.__name__} {step}")
    assert passed == sound


def test_a_key_under_an_id_that_is_no_hint() -> None:
    """A wrong key id is no obstacle to us; in-toto does not find the key."""
    pipe = pipeline()
    _other_key(pipe, "build")
    assert pipe.ours().findings == ()
    files = [
        (f"{file.step}.{world.keyid(name)[:8]}.link", file.data)
        for file, name in zip(pipe.files(), ("builder", "packager"), strict=True)
    ]
    assert pipe.theirs(files) is not None
