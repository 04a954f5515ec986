"""Links are missing, too many, of other releases or by other keys.

Mallory lists the release with the application's stolen key; where she needs it, she
holds the key of one functionary, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats.record import Component
from tests.attacks.proven import running, two_builders
from tests.world.provenance import (
    CLOSED,
    FUNCTIONARIES,
    MANIFEST,
    envelope,
    keyid,
    layout,
    linked,
    reopened,
    sha256,
    step,
    steps,
)

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from tests.world.provenance import Document, Json, Run

EMPTY = sha256("")


def by_both(run: Run) -> list[Document]:
    """Return a run's links, with a second one by the other builder."""
    second = linked("build", run.links["build"], "builder-b")
    return [*run.documents().values(), second]


# --- T-221: a step was skipped -------------------------------------------------------


@pytest.mark.parametrize("name", ["build", "test", "package"])
def test_missing_step(tmp_path: Path, name: str) -> None:
    """A release is built and published, but one of its steps left no link."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    del documents[name]
    plant.publish(run, documents.values())
    error = plant.refused("missing-step", name)
    assert error.step == name

    plant.publish(run)
    plant.verified("1.1.0")


def test_no_link_at_all(tmp_path: Path) -> None:
    """Mallory has the online keys alone, and lists what no functionary ever saw."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"), ())
    plant.refused("missing-step", "build")


def test_release_without_a_layout(tmp_path: Path) -> None:
    """The record names no layout, as if nobody had ever demanded one."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"), (), number=None)
    plant.refused("no-layout", "layout")
    plant.publish(plant.run("1.2.0"), number=None)
    plant.refused("no-layout", "layout")


def test_dropped_link_beside_a_spare_one(tmp_path: Path) -> None:
    """A threshold of two is not met by one link, however often it is named."""
    plant = running(tmp_path)
    two_builders(plant, threshold=2)
    run = plant.run("1.1.0")
    plant.publish(run, by_both(run))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    plant.publish(other)
    error = plant.refused("threshold", "build")
    assert error.step == "build"


# --- T-222: what a step made is more than it may make --------------------------------


def test_extra_product(tmp_path: Path) -> None:
    """With the builder's key, Mallory puts something of hers beside the program."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/backdoor.so"] = sha256("mallory")
    plant.publish(run)
    error = plant.refused("rule", r"out/backdoor\.so")
    assert (error.step, error.rule) == ("build", "DISALLOW *")
    assert error.artifact == "out/backdoor.so"


def test_extra_product_of_the_release_step(tmp_path: Path) -> None:
    """With the packager's key, Mallory packs something that nobody built."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["package"]["materials"]["stolen/backdoor.so"] = sha256("mallory")
    plant.publish(run)
    error = plant.refused("rule", r"stolen/backdoor\.so")
    assert (error.step, error.rule) == ("package", "DISALLOW *")


def test_product_that_no_rule_speaks_of(tmp_path: Path) -> None:
    """A layout whose rules end without DISALLOW lets nothing else in all the same."""
    plant = running(tmp_path)
    found = steps()
    for one in found:
        one["expected_materials"].remove(list(CLOSED))
        one["expected_products"].remove(list(CLOSED))
    plant.use_layout(layout(found))
    plant.verified("1.0.0")
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/backdoor.so"] = sha256("mallory")
    plant.publish(run)
    error = plant.refused("unexplained", r"out/backdoor\.so")
    assert (error.step, error.artifact) == ("build", "out/backdoor.so")


def test_program_changed_between_two_steps(tmp_path: Path) -> None:
    """What is packed is not what was built and tested, under the same name."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["package"]["materials"]["out/pump.wasm"] = sha256("mallory")
    plant.publish(run)
    error = plant.refused("rule", r"out/pump\.wasm")
    assert error.step == "package"


# --- T-223: links of another release -------------------------------------------------


def test_links_of_another_release(tmp_path: Path) -> None:
    """The links of 1.0.0 are all in order, and prove nothing about 1.1.0."""
    plant = running(tmp_path)
    old = plant.run("1.0.0").documents()
    run = plant.run("1.1.0")
    plant.publish(run, old.values())
    error = plant.refused("release-product", MANIFEST)
    assert error.step == "package"
    assert run.artifact.digest.short in str(error.wanted)
    assert plant.run("1.0.0").artifact.digest.short in str(error.found)


@pytest.mark.parametrize("name", ["build", "test", "package"])
def test_one_link_of_another_release(tmp_path: Path, name: str) -> None:
    """One step's link is swapped for that of the release before."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    documents[name] = plant.run("1.0.0").documents()[name]
    plant.publish(run, documents.values())
    error = plant.refused("rule", "MATCH")
    if name == "package":
        assert error.trace is not None
        reasons = {one["reason"] for one in error.trace["findings"]}
        assert "release-product" in reasons


def test_links_of_two_releases_side_by_side(tmp_path: Path) -> None:
    """The right link stands beside the one of the release before."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    old = plant.run("1.0.0").documents()["test"]
    plant.publish(run, [*run.documents().values(), old])
    error = plant.refused("links-disagree", "test")
    assert error.step == "test"


# --- T-224: one functionary counts as two --------------------------------------------


def test_one_key_under_two_ids_in_a_layout(tmp_path: Path) -> None:
    """A layout's two builders are one key, whose id somebody wrote in two ways."""
    plant = running(tmp_path)
    said = layout()
    twin = "ab" * 32
    said["keys"][twin] = {**said["keys"][keyid("builder")], "keyid": twin}
    said["steps"][0]["pubkeys"] = [keyid("builder"), twin]
    said["steps"][0]["threshold"] = 2
    plant.use_layout(said)
    run = plant.run("1.1.0")
    run.signers["build"] = ("builder",)
    again = linked("build", run.links["build"], ("builder", twin))
    plant.publish(run, [*run.documents().values(), again])
    plant.refused("layout-threshold", "build")


def claims(run: Run) -> list[Document]:
    """The second link's signature claims the other builder's key id."""
    return [linked("build", run.links["build"], ("builder", keyid("builder-b")))]


def twice(run: Run) -> list[Document]:
    """The same link by the same key in another envelope."""
    sealed = json.dumps(json.loads(run.documents()["build"].data), indent=1)
    return [run.documents()["build"]._replace(data=sealed.encode())]


def in_one(run: Run) -> list[Document]:
    """One envelope holds the same signature twice, under both ids and under none."""
    said = envelope(
        run.links["build"],
        "builder",
        ("builder", keyid("builder-b")),
        ("builder", None),
    )
    return [run.documents()["build"]._replace(data=said)]


@pytest.mark.parametrize("more", [claims, twice, in_one])
def test_one_functionary_twice(tmp_path: Path, more: object) -> None:
    """Two builders must agree. Mallory has the key of one, and signs for both."""
    plant = running(tmp_path)
    two_builders(plant, threshold=2)
    run = plant.run("1.1.0")
    plant.publish(run, by_both(run))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    assert callable(more)
    plant.publish(other, [*other.documents().values(), *more(other)])
    error = plant.refused("threshold", "build")
    assert "by 1 distinct" in str(error.found)
    assert str(error.wanted).startswith("1 more link of ")


# --- T-225: a link by a key that has no say ------------------------------------------


def test_link_by_the_key_of_another_step(tmp_path: Path) -> None:
    """With the builder's key, Mallory says that the tests passed."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.signers["test"] = ("builder",)
    plant.publish(run)
    error = plant.refused("functionary", "test")
    assert error.step == "test"


@pytest.mark.parametrize("name", ["mallory", "acme", "acme.pump-monitor", "snapshot"])
def test_link_by_a_key_that_the_layout_does_not_hold(tmp_path: Path, name: str) -> None:
    """Neither a stranger's key nor one of TUF's speaks for a functionary."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.signers["test"] = (name,)
    plant.publish(run)
    plant.refused("signature", "test")


def test_link_that_claims_the_id_of_the_right_key(tmp_path: Path) -> None:
    """A key id is a hint and proves nothing."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    documents["test"] = linked("test", run.links["test"], ("builder", keyid("tester")))
    plant.publish(run, documents.values())
    plant.refused("functionary", "test")


def test_link_whose_signature_hides_its_key_id(tmp_path: Path) -> None:
    """An id that is missing or wrong takes nothing from a good signature."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    documents["build"] = linked("build", run.links["build"], ("builder", None))
    documents["test"] = linked("test", run.links["test"], ("tester", "00" * 32))
    plant.publish(run, documents.values())
    plant.verified("1.1.0")


# --- T-226: a link speaks for another step, or for none ------------------------------


def test_link_named_as_another_step(tmp_path: Path) -> None:
    """The tester may sign for `test`; a link that says `build` is not that."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["test"]["name"] = "build"
    plant.publish(run)
    error = plant.refused("step-name", "build")
    assert error.step == "test"


def test_link_of_one_step_replayed_for_another(tmp_path: Path) -> None:
    """One key may sign two steps: its link of the one is none of the other."""
    plant = running(tmp_path)
    found = steps()
    found[1]["pubkeys"] = [keyid("builder")]
    found[1]["expected_materials"] = [["ALLOW", "*"]]
    found[1]["expected_products"] = [["ALLOW", "*"]]
    found[2]["expected_materials"] = [["ALLOW", "*"]]
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    documents = run.documents()
    documents["test"] = linked(
        "test", {**run.links["build"], "command": ["x"]}, "builder"
    )
    plant.publish(run, documents.values())
    error = plant.refused("step-name", "build")
    assert error.step == "test"


def test_link_of_a_step_that_the_layout_does_not_have(tmp_path: Path) -> None:
    """What no rule looks at is not let in beside what is in order."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    extra = linked("deploy", {**run.links["build"], "name": "deploy"}, "builder")
    plant.publish(run, [*run.documents().values(), extra])
    plant.refused("unexpected-link", "deploy")


def test_link_without_a_step(tmp_path: Path) -> None:
    """A link that the record gives to no step is not guessed to be of one."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    documents["test"] = documents["test"]._replace(step=None)
    plant.publish(run, documents.values())
    plant.refused("unexpected-link", "step")


# --- T-227: two links of one step disagree -------------------------------------------


def test_links_that_disagree(tmp_path: Path) -> None:
    """One of two builders is enough. Mallory has the other's key, and says that
    something else was built: neither is believed, whichever comes first."""
    plant = running(tmp_path)
    two_builders(plant, threshold=1)
    run = plant.run("1.1.0")
    plant.publish(run)
    plant.verified("1.1.0")

    for number, flip in enumerate((False, True)):
        other = plant.run(f"1.{number + 2}.0")
        forged: Json = json.loads(json.dumps(other.links["build"]))
        forged["products"]["out/pump.wasm"] = sha256("mallory")
        said = [*other.documents().values(), linked("build", forged, "builder-b")]
        plant.publish(other, reversed(said) if flip else said)
        error = plant.refused("links-disagree", r"out/pump\.wasm")
        assert error.step == "build"


def test_links_that_disagree_about_what_went_in(tmp_path: Path) -> None:
    """Agreement is about materials, too, and about names that only one has."""
    plant = running(tmp_path)
    two_builders(plant, threshold=1)
    run = plant.run("1.1.0")
    forged: Json = json.loads(json.dumps(run.links["build"]))
    forged["materials"]["src/mallory.c"] = sha256("mallory")
    plant.publish(
        run, [*run.documents().values(), linked("build", forged, "builder-b")]
    )
    plant.refused("links-disagree", r"src/mallory\.c")


# --- T-228: steps that have nothing to do with the release ---------------------------


def test_empty_materials_satisfy_every_match(tmp_path: Path) -> None:
    """With the packager's key, Mallory packs what nobody built: a link that names no
    material breaks no rule, and joins no step with the release."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["package"]["materials"] = {}
    plant.publish(run)
    plant.refused("unconnected", "build|test")


def test_only_an_empty_file_goes_from_step_to_step(tmp_path: Path) -> None:
    """An empty file is the same wherever it comes from: it joins nothing."""
    plant = running(tmp_path)
    found = steps()
    found[0]["expected_products"] = [["CREATE", "out/*"], list(CLOSED)]
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/__init__.py"] = EMPTY
    run.links["test"]["materials"]["out/__init__.py"] = EMPTY
    run.links["package"]["materials"]["out/__init__.py"] = EMPTY
    plant.publish(run)
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    other.links["build"]["products"]["out/__init__.py"] = EMPTY
    other.links["test"]["materials"] = {"out/__init__.py": EMPTY}
    other.links["package"]["materials"] = {"out/__init__.py": EMPTY}
    plant.publish(other)
    plant.refused("unconnected", "build|test")


def test_build_of_another_run_of_the_same_commit(tmp_path: Path) -> None:
    """Tester and packager looked at sources alone, so any build of them would do."""
    plant = running(tmp_path)
    found = steps()
    sources = ["MATCH", "src/*", "WITH", "MATERIALS", "FROM", "build"]
    for one in found[1:]:
        one["expected_materials"].insert(0, sources)
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    taken = run.links["build"]["materials"]
    run.links["test"]["materials"] |= taken
    run.links["package"]["materials"] |= taken
    plant.publish(run)
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    program = other.links["build"]["products"].keys()
    other.links["build"]["products"] = dict.fromkeys(program, sha256("mallory"))
    for name in ("test", "package"):
        materials = other.links[name]["materials"] | other.links["build"]["materials"]
        other.links[name]["materials"] = {
            one: what for one, what in materials.items() if one not in program
        }
    plant.publish(other)
    error = plant.refused("unconnected", "nothing that step build made")
    assert error.step == "build"


def test_step_beside_the_chain(tmp_path: Path) -> None:
    """A review of something else is no review of this release."""
    plant = running(tmp_path)
    review = step(
        "review",
        "reviewer",
        materials=[("ALLOW", "*")],
        products=[("ALLOW", "*")],
    )
    plant.use_layout(
        layout([*steps(), review], functionaries=(*FUNCTIONARIES, "reviewer"))
    )
    run = plant.run("1.1.0")
    said = {**run.links["build"], "name": "review"}
    plant.publish(run, [*run.documents().values(), linked("review", said, "reviewer")])
    error = plant.refused("unconnected", "review")
    assert error.step == "review"


# --- T-228: links that say nothing ---------------------------------------------------


@pytest.mark.parametrize("name", ["build", "test", "package"])
def test_empty_products(tmp_path: Path, name: str) -> None:
    """A step that made nothing proves nothing about what is released."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links[name]["products"] = {}
    plant.publish(run)
    after = {"build": "step test", "test": "step package", "package": MANIFEST}
    plant.refused("rule", after[name])


def component(name: str, content: Descriptor) -> Component:
    """Return a component of the profile `stack`."""
    return Component(
        name=name,
        profile="stack",
        profile_type="compose",
        repository=f"oci://registry.example/acme/{name}",
        revision="1.1.0",
        content=content,
    )


def test_release_step_without_a_component(tmp_path: Path) -> None:
    """The manifest is proven; a component that the record names beside it is not."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    content = plant.world.artifact(b"web 1.1.0")
    web = component("web", content)
    good = sha256("")
    name = "release/components/stack/web"
    run.releases(components=[web])
    plant.publish(run, components=(web,))
    plant.verified("1.1.0")

    for number, digest in enumerate((None, good)):
        other = plant.run(f"1.{number + 2}.0")
        if digest is not None:
            other.links["package"]["products"][name] = digest
        plant.publish(other, components=(web,))
        error = plant.refused("release-product", name)
        assert error.artifact == name


def test_release_step_with_a_component_too_many(tmp_path: Path) -> None:
    """The links are of a release with a component; the record leaves it out."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    name = "release/components/stack/web"
    run.links["package"]["products"][name] = sha256("web")
    plant.publish(run)
    error = plant.refused("release-product", name)
    assert error.artifact == name


def test_signature_of_nobody(tmp_path: Path) -> None:
    """An envelope without any signature is not one that is signed by all."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    documents = run.documents()
    unsigned = reopened(documents["test"].data, lambda raw: raw.update(signatures=[]))
    documents["test"] = documents["test"]._replace(data=unsigned)
    plant.publish(run, documents.values())
    plant.refused("envelope", "signature")
