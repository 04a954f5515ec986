"""Verdicts about chains: what each finding says, in which order, how much is told."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from securesystemslib.signer import SSlibKey

from margo_supplychain.formats.digests import Digest
from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.chain import LinkFile, ReleaseFacts
from margo_supplychain.provenance.revocation import revoked_materials
from margo_supplychain.provenance.signed_links import MAX_LINKS
from margo_supplychain.provenance.trace import (
    END,
    MOST_ARTIFACTS,
    MOST_FINDINGS,
    MOST_TEXT,
)
from margo_supplychain.threshold import computed_keyids, material
from tests.provenance.chains import (
    ARTIFACT,
    CLOSED,
    MANIFEST,
    NOW,
    Pipeline,
    digest,
    link_file,
    only,
    pipeline,
    reasons,
    reopened,
)
from tests.world import provenance as world
from tests.world.repository import key

EMPTY: Final = digest("")


def test_a_chain_that_is_proven() -> None:
    pipe = pipeline()
    found = pipe.ours()
    assert found.findings == ()
    build, package = found.steps
    assert (build.name, build.functionaries) == ("build", (world.keyid("builder"),))
    assert build.links == (pipe.files()[0].digest,)
    assert found.functionaries == build.materials | package.materials
    assert build.materials == {material(key("builder").public_key)}
    assert pipe.theirs() is None


def test_the_trace_of_a_chain() -> None:
    pipe = pipeline()
    trace = pipe.ours().trace
    assert json.loads(json.dumps(trace)) == trace
    build, package = trace["steps"]
    assert build["links"] == [
        {
            "digest": str(pipe.files()[0].digest),
            "keyid": world.keyid("builder"),
            "outcome": "counted",
            "why": None,
        }
    ]
    assert (package["name"], package["threshold"], package["connected"]) == (
        "package",
        1,
        True,
    )
    assert package["rules"][0] == {
        "of": "materials",
        "rule": "MATCH out/* WITH PRODUCTS FROM build",
        "outcome": "passed",
        "consumed": 1,
        "artifacts": ["out/a"],
        "found": None,
        "wanted": None,
    }
    assert package["rules"][2]["rule"] == "REQUIRE release/manifest"
    assert package["rules"][2]["artifacts"] == [MANIFEST]
    assert trace["edges"] == [
        {"from": "build", "to": "package", "artifacts": 1, "example": "out/a"}
    ]
    assert trace["release"] == {
        "step": "package",
        "artifact": str(ARTIFACT),
        "products": [
            {
                "name": MANIFEST,
                "outcome": "passed",
                "wanted": str(ARTIFACT),
                "found": f"sha256:{ARTIFACT.short}",
            }
        ],
    }
    assert (trace["findings"], trace["unexpected"]) == ([], [])


# --- 1: time -------------------------------------------------------------------------


def test_a_layout_that_has_expired() -> None:
    pipe = pipeline()
    expires = pipe.parsed().expires
    second = timedelta(seconds=1)
    assert pipe.ours(now=expires - second).findings == ()
    found = only(pipe.ours(now=expires))
    assert found.reason == "layout-expired"
    assert found.text == "the layout expired at 2028-11-21T10:00:00Z"
    assert found.stricter is None
    # The publisher policy may say later, or earlier.
    later = pipe.ours(now=expires, expires=expires + second)
    assert later.findings == ()
    found = only(pipe.ours(now=NOW, expires=NOW))
    assert "by the publisher policy" in found.text
    assert found.stricter == stricter.OVERRIDE


# --- 2: links ------------------------------------------------------------------------


def test_a_link_that_is_no_envelope() -> None:
    pipe = pipeline()
    build, package = pipe.files()
    bad = link_file("build", b'{"signed": {}, "signatures": []}')
    found = pipe.ours(files=[bad, package])
    # Others are judged all the same.
    assert reasons(found) == ["envelope", "threshold", "rule"]
    assert found.findings[0].step == "build"
    assert pipe.ours(files=[build, package, bad]).findings[0].reason == "envelope"


def test_a_link_with_a_signature_of_nobody() -> None:
    pipe = pipeline()
    build, package = pipe.files()

    def flip(raw: dict[str, Any]) -> None:
        raw["payload"] = build_payload_of_another()

    def build_payload_of_another() -> str:
        other = link_file("build", world.link("build", materials={}, products={}), "x")
        return str(json.loads(other.data)["payload"])

    found = pipe.ours(files=[reopened(build, flip), package])
    assert reasons(found) == ["signature", "threshold", "rule"]
    assert found.findings[0].wanted == (
        "a signature by a functionary of step build: "
        f"{world.keyid('builder')[:12]}, {world.keyid('second')[:12]}"
    )
    assert found.findings[0].text.endswith(
        f"says key {world.keyid('builder')[:12]}, whose signature does not fit: the "
        "link was changed after it was signed, or signed with another key"
    )


def test_a_link_by_somebody_whom_the_layout_does_not_name() -> None:
    pipe = pipeline()
    pipe.sign("build", "mallory")
    found = pipe.ours().findings[0]
    assert found.reason == "signature"
    # Who has left is not said to have changed anything.
    assert found.text.endswith(
        f"says key {world.keyid('mallory')[:12]}, which is no functionary of the layout"
    )
    build, package = pipe.files()

    def nameless(raw: dict[str, Any]) -> None:
        raw["signatures"][0]["keyid"] = ""

    found = pipe.ours(files=[reopened(build, nameless), package]).findings[0]
    assert found.text.endswith("has no valid signature by a key of the layout")


def test_a_link_by_the_functionary_of_another_step() -> None:
    pipe = pipeline()
    pipe.sign("build", "packager")
    found = pipe.ours().findings[0]
    assert found.reason == "functionary"
    assert found.found == (
        f"a signature by {world.keyid('packager')[:12]}, a functionary of package"
    )
    assert pipe.theirs() is not None
    pipe.step("package")["pubkeys"] = [world.keyid("second")]
    assert "a functionary of no step" in pipe.ours().findings[0].text


def test_a_link_by_two_keys_of_which_one_counts() -> None:
    pipe = pipeline()
    pipe.sign("build", "mallory", "builder", "packager")
    found = pipe.ours()
    assert found.findings == ()
    assert found.steps[0].functionaries == (world.keyid("builder"),)


def test_a_link_whose_payload_is_none() -> None:
    pipe = pipeline()
    _, package = pipe.files()
    for payload, kind, reason in (
        (b"{", world.PAYLOAD, "envelope"),
        ({"_type": "layout"}, world.PAYLOAD, "sublayout"),
        (pipe.link("build"), "application/json", "payload-type"),
    ):
        data = world.envelope(payload, "builder", payload_type=kind)
        found = pipe.ours(files=[link_file("build", data), package])
        assert reasons(found) == [reason, "threshold", "rule"]
        assert found.findings[0].step == "build"


def test_a_statement_with_a_link_counts_as_the_link() -> None:
    pipe = pipeline()
    build, package = pipe.files()
    link = pipe.link("build")
    statement = {
        "_type": world.STATEMENT,
        "subject": [
            {"name": name, "digest": one} for name, one in link["products"].items()
        ],
        "predicateType": world.LINK,
        "predicate": {
            "name": "build",
            "command": [],
            "materials": [
                {"name": name, "digest": one} for name, one in link["materials"].items()
            ],
        },
    }
    kind = "application/vnd.in-toto.link+json"
    for payload_type in (world.PAYLOAD, kind):
        data = world.envelope(statement, "builder", payload_type=payload_type)
        assert pipe.ours(files=[link_file("build", data), package]).findings == ()
    assert build.step == "build"


def test_a_link_of_another_step() -> None:
    pipe = pipeline()
    pipe.link("build")["name"] = "package"
    found = pipe.ours()
    assert reasons(found) == ["step-name", "threshold", "rule"]
    assert found.findings[0].found == 'a link of step "package"'
    assert found.trace["steps"][0]["links"][0]["outcome"] == "refused"


def test_a_link_of_a_step_that_is_not_in_the_layout() -> None:
    pipe = pipeline()
    extra = link_file("lint", world.link("lint", materials={}, products={}), "builder")
    found = pipe.ours(files=[*pipe.files(), extra])
    assert only(found).reason == "unexpected-link"
    assert only(found).wanted == "links of build, package alone"
    (row,) = found.trace["unexpected"]
    assert (row["step"], row["outcome"]) == ("lint", "refused")


def test_more_links_than_any_pipeline_has() -> None:
    pipe = pipeline()
    files = pipe.files()
    many = (LinkFile("x", Digest.of(b"%d" % one), b"") for one in range(MAX_LINKS + 5))
    found = pipe.ours(files=[*files, *many])
    assert len(found.findings) == MOST_FINDINGS
    assert found.trace["more_findings"] == MAX_LINKS - 2 + 1 - MOST_FINDINGS
    texts = [row["why"] for row in found.trace["unexpected"]]
    assert any("more than 256 links" in text for text in texts)


def test_an_envelope_that_is_named_twice_is_one() -> None:
    pipe = pipeline()
    found = pipe.ours(files=[*pipe.files(), *pipe.files()])
    assert found == pipe.ours()


# --- 3: steps ------------------------------------------------------------------------


def test_a_step_without_links() -> None:
    pipe = pipeline()
    found = pipe.ours(files=pipe.files()[1:])
    # What follows from it is told after it.
    assert reasons(found) == ["missing-step", "rule"]
    first, second = found.findings
    assert first.text == "step build has no link"
    assert (first.step, first.found) == ("build", "no link")
    assert first.wanted == (
        f"1 link of {world.keyid('builder')[:12]}, {world.keyid('second')[:12]}"
    )
    assert second.found == (
        '"MATCH out/* WITH PRODUCTS FROM build" finds no good link of step build'
    )
    assert str(second).endswith(f": {second.found}")
    assert second.wanted == "a good link of step build"
    assert found.steps[0].links == ()
    assert found.trace["steps"][0]["rules"] == []
    assert reasons(pipe.ours(files=[])) == ["missing-step", "missing-step"]
    assert pipe.ours(files=[]).trace["release"]["products"][0]["found"] is None


def two_builders() -> Pipeline:
    pipe = pipeline()
    pipe.step("build")["threshold"] = 2
    again = json.loads(json.dumps(pipe.link("build")))
    pipe.links.append(("build", again, ("second",)))
    return pipe


def test_two_functionaries_who_agree() -> None:
    pipe = two_builders()
    found = pipe.ours()
    assert found.findings == ()
    expected = tuple(sorted((world.keyid("builder"), world.keyid("second"))))
    assert found.steps[0].functionaries == expected
    assert pipe.theirs() is None


def test_one_envelope_by_both_functionaries() -> None:
    pipe = two_builders()
    pipe.links.pop()
    pipe.sign("build", "builder", "second")
    assert pipe.ours().findings == ()
    assert len(pipe.ours().trace["steps"][0]["links"]) == 2


def test_one_of_two_functionaries() -> None:
    pipe = two_builders()
    pipe.links.pop()
    found = only(pipe.ours())
    assert found.reason == "threshold"
    assert found.text == "step build was done by 1 of 2 functionaries"
    first, second = (world.keyid(one)[:12] for one in ("builder", "second"))
    assert found.found == f"good links by 1 distinct key: {first}"
    assert found.wanted == f"1 more link of {second}"
    # Twice by one is by one: another link, another signature, the same key.
    again = {**pipe.link("build"), "byproducts": {"x": 1}}
    pipe.links.append(("build", again, ("builder",)))
    assert only(pipe.ours()).reason == "threshold"


@pytest.mark.parametrize("threshold", [1, 2])
def test_functionaries_who_disagree(threshold: int) -> None:
    pipe = two_builders()
    pipe.step("build")["threshold"] = threshold
    pipe.links[-1][1]["products"]["out/b"] = digest("other")
    found = pipe.ours()
    disagree = next(one for one in found.findings if one.reason == "links-disagree")
    assert disagree.artifact == "out/b"
    assert disagree.found is not None
    assert "has none" in disagree.found
    assert (disagree.stricter == stricter.ALL_AGREE) is (threshold == 1)
    pipe.links[-1][1]["products"] = {"out/a": digest("other")}
    disagree = pipe.ours().findings[0]
    assert disagree.text == 'links of step build disagree about product "out/a"'


def test_functionaries_with_other_algorithms() -> None:
    """One records sha256, another both: what both say decides, and sha512 is kept."""
    pipe = two_builders()
    strong = {**digest("program"), "sha512": "ab" * 64}
    pipe.links[-1][1]["products"]["out/a"] = strong
    assert pipe.ours().findings == ()
    pipe.link("package")["materials"]["out/a"] = {"sha512": "ab" * 64}
    assert pipe.ours().findings == ()
    pipe.link("package")["materials"]["out/a"] = {"sha512": "cd" * 64}
    assert pipe.ours().findings[0].reason == "rule"
    # Without an algorithm in common nothing says that they mean the same.
    pipe.links[-1][1]["products"]["out/a"] = {"sha512": "ab" * 64}
    assert pipe.ours().findings[0].reason == "links-disagree"


def test_functionaries_who_each_agree_with_the_first_alone() -> None:
    """Of three links two have only sha512 in common, and differ in it."""
    pipe = two_builders()
    pipe.step("build")["pubkeys"].append(world.keyid("packager"))
    again = json.loads(json.dumps(pipe.link("build")))
    pipe.links.append(("build", again, ("packager",)))
    one, other = {"sha512": "ab" * 64}, {"sha512": "cd" * 64}
    pipe.links[-1][1]["products"]["out/a"] = {**digest("program"), **one}
    pipe.links[-2][1]["products"]["out/a"] = {**digest("program"), **other}
    verdicts = {
        tuple(reasons(pipe.ours(files=files)))
        for files in itertools.permutations(pipe.files())
    }
    assert verdicts == {("links-disagree",)}


def test_more_ways_of_writing_than_are_compared() -> None:
    pipe = pipeline()
    names = [f"builder {number}" for number in range(12)]
    keys = world.layout([], functionaries=names)["keys"]
    pipe.layout["keys"] |= keys
    pipe.step("build")["pubkeys"] += list(keys)
    for number, name in enumerate(names):
        link = json.loads(json.dumps(pipe.link("build")))
        link["products"][f"out/{number}"] = digest("more")
        pipe.links.append(("build", link, (name,)))
    found = pipe.ours().findings[0]
    assert found.reason == "links-disagree"
    assert "in more than 8 ways" in found.text
    # The rest is not compared with all others.
    assert found.found == "9 ways"


# --- revocation ----------------------------------------------------------------------


def names_of(name: str) -> list[str]:
    """Return what a publisher policy may call a key."""
    public = key(name).public_key
    return [public.keyid, material(public), public.keyid.upper()]


@pytest.mark.parametrize("name", range(3))
def test_a_functionary_who_is_revoked(name: int) -> None:
    pipe = pipeline()
    revoked = {names_of("builder")[name]: frozenset[Digest]()}
    found = pipe.ours(revoked=revoked)
    assert reasons(found)[0] == "revoked"
    assert found.findings[0].text == (
        "step build was done by 0 of 1 functionaries; "
        f"{world.keyid('builder')[:12]} is revoked"
    )
    assert found.findings[0].wanted == (
        f"1 link of {world.keyid('second')[:12]}, or this artifact among those "
        "that survive the revocation"
    )
    row = found.trace["steps"][0]["links"][0]
    assert (row["outcome"], row["keyid"]) == ("revoked", world.keyid("builder"))
    assert pipe.theirs() is None


def test_a_revoked_functionary_under_an_id_of_another_tool() -> None:
    """The layout calls the key by an id that nobody computes any more."""
    pipe = pipeline()
    public = key("builder").public_key
    entry = pipe.layout["keys"].pop(public.keyid)
    pipe.layout["keys"]["0a" * 32] = {**entry, "keyid": "0a" * 32}
    pipe.step("build")["pubkeys"] = ["0a" * 32]
    assert pipe.ours().findings == ()
    nothing = frozenset[Digest]()
    for one in (public.keyid, "0a" * 32):
        assert reasons(pipe.ours(revoked={one: nothing}))[0] == "revoked"
    assert pipe.ours(revoked={"0b" * 32: nothing}).findings == ()


def public_keys() -> dict[str, SSlibKey]:
    """Return one key of each kind, as a publisher names it to revoke it."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "rsa": SSlibKey.from_crypto(private.public_key()),
        "ecdsa": SSlibKey.from_crypto(
            ec.generate_private_key(ec.SECP256R1()).public_key()
        ),
    }


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_key_is_revoked_in_every_form_that_a_layout_may_have_it(kind: str) -> None:
    """Its PEM without the last line end, another scheme, another tool's fields."""
    public = public_keys()[kind]
    pem = public.keyval["public"]
    other = {
        "rsa": ("rsa", "rsa-pkcs1v15-sha512"),
        "ecdsa": ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    }[kind]
    hashed = {"keyid_hash_algorithms": ["sha256", "sha512"]}
    forms = [
        SSlibKey("aa", public.keytype, public.scheme, {"public": text}, dict(fields))
        for text in (pem, pem.strip(), pem.strip() + "\n\n")
        for fields in ({}, hashed)
    ]
    forms.append(SSlibKey("aa", *other, {"public": pem}))
    nothing = frozenset[Digest]()
    for form in forms:
        for revoked in {public.keyid, *computed_keyids(forms[1])}:
            found = revoked_materials({"aa": form}, {revoked: nothing}, ARTIFACT)
            assert found == {material(public)}
    unknown = {"0b" * 32: nothing, world.keyid("builder"): nothing}
    assert revoked_materials({"aa": public}, unknown, ARTIFACT) == frozenset()


def test_releases_survive_a_revocation() -> None:
    pipe = pipeline()
    ours, other = world.keyid("builder"), Digest.of(b"other")
    # By what their record says, not by their artifact: others can have that, too.
    released = Digest.of(b"the record's identity")
    spared = {ours: frozenset({ARTIFACT, released})}
    assert reasons(pipe.ours(revoked=spared))[0] == "revoked"
    pipe = replace(pipe, release=ReleaseFacts(ARTIFACT, {world.RECORD: released}))
    assert reasons(pipe.ours(revoked=spared)) == ["release-product"]
    assert reasons(pipe.ours(revoked={ours: frozenset({other})}))[0] == "revoked"
    # Named twice: what one of them says does not survive the other.
    both = {
        ours: frozenset({ARTIFACT}),
        material(key("builder").public_key): frozenset[Digest](),
    }
    assert reasons(pipe.ours(revoked=both))[0] == "revoked"


def test_links_of_the_revoked_are_not_needed_where_others_are_enough() -> None:
    pipe = two_builders()
    revoked = {world.keyid("second"): frozenset[Digest]()}
    assert reasons(pipe.ours(revoked=revoked)) == ["revoked"]
    pipe.step("build")["threshold"] = 1
    # What a stolen key says is not compared with what counts.
    pipe.links[-1][1]["products"]["out/evil"] = digest("evil")
    found = pipe.ours(revoked=revoked)
    assert found.findings == ()
    assert material(key("second").public_key) not in found.functionaries
    pipe.links.pop()
    pipe.sign("build", "builder", "second")
    assert pipe.ours(revoked=revoked).findings == ()


# --- 4: rules ------------------------------------------------------------------------


def test_an_extra_product() -> None:
    pipe = pipeline()
    pipe.link("package")["products"]["evil.sh"] = digest("evil")
    found = only(pipe.ours())
    assert (found.reason, found.step, found.artifact) == ("rule", "package", "evil.sh")
    assert found.rule == "DISALLOW *"
    assert found.text == (
        'product "evil.sh" of step package is disallowed by "DISALLOW *"'
    )
    assert found.wanted == (
        'a rule above "DISALLOW *" that accounts for it, or step package without it'
    )
    assert pipe.theirs() is not None


def test_another_content_says_what_each_step_has() -> None:
    pipe = pipeline()
    pipe.link("package")["materials"]["out/a"] = {
        **digest("other"),
        "sha512": "ab" * 64,
    }
    found = pipe.ours().findings[0]
    assert found.text == (
        'material "out/a" of step package is disallowed by "DISALLOW *": '
        '"MATCH out/* WITH PRODUCTS FROM build" finds '
        f"sha256:{digest('program')['sha256'][:12]} in the products of step build, "
        "here it is sha256:d9298a10d1b0 sha512:abababababab"
    )
    assert found.wanted is not None
    assert found.wanted.startswith("the same content in both: links of one run")


def test_a_directory_that_was_renamed_is_told() -> None:
    pipe = pipeline()
    materials = pipe.link("package")["materials"]
    materials["bin/a"] = materials.pop("out/a")
    pipe.step("package")["expected_materials"].insert(
        0, ["MATCH", "bin/*", "WITH", "PRODUCTS", "FROM", "build"]
    )
    found = pipe.ours().findings[0]
    assert found.found == (
        '"MATCH bin/* WITH PRODUCTS FROM build" finds no "bin/a" in the products of '
        'step build, where the same content is "out/a"'
    )
    assert found.wanted == (
        '"bin/a" in the products of step build: was the directory renamed, or was one '
        "of the commands run elsewhere"
    )
    # An empty file is everywhere: nothing was renamed.
    pipe.link("package")["materials"]["bin/a"] = digest("")
    pipe.link("build")["products"]["out/empty"] = digest("")
    found = next(one for one in pipe.ours().findings if one.step == "package")
    assert found.wanted is not None
    assert found.wanted.endswith("or step package without it")


@pytest.mark.parametrize("refusing", [["DISALLOW", "git/dirty"], None])
def test_a_dirty_tree_is_cleaned_and_no_rule_loosened(
    refusing: list[str] | None,
) -> None:
    pipe = pipeline()
    pipe.link("build")["materials"]["git/dirty"] = digest("M core")
    rules = [["ALLOW", "src/*"]] if refusing is None else [refusing, ["ALLOW", "*"]]
    pipe.step("build")["expected_materials"] = rules
    found = only(pipe.ours())
    assert found.artifact == "git/dirty"
    assert found.wanted == (
        "a working tree as its commit has it: commit or remove the changes, and "
        "record the step again"
    )


def test_a_release_that_was_not_recorded_says_how() -> None:
    pipe = pipeline()
    del pipe.link("package")["products"]["release/manifest"]
    found = next(one for one in pipe.ours().findings if one.reason == "rule")
    assert found.wanted == (
        'a product "release/manifest" in each link of step package, which '
        "`attest run --release DIST` records"
    )


def judged(
    products: list[Any],
    *,
    before: dict[str, str],
    after: dict[str, str],
    closed: bool = True,
) -> Pipeline:
    """Return a pipeline whose step build has other rules and artifacts."""
    pipe = pipeline()
    end = [list(CLOSED)] if closed else []
    pipe.step("build")["expected_materials"] = [["ALLOW", "*"]]
    pipe.step("build")["expected_products"] = [list(one) for one in products] + end
    pipe.link("build")["materials"] = {name: digest(t) for name, t in before.items()}
    pipe.link("build")["products"] = {
        "out/a": digest("program"),
        **{name: digest(text) for name, text in after.items()},
    }
    return pipe


@pytest.mark.parametrize(
    ("rules", "before", "after", "why"),
    [
        (["CREATE *"], {"a": "1"}, {"a": "1"}, "it was a material already"),
        (["MODIFY *"], {"a": "1"}, {"a": "1"}, "it is the same as before"),
        (["MODIFY a"], {}, {"a": "1"}, "it was no material"),
        (["DELETE *"], {"a": "1"}, {"a": "1"}, "it is still a product"),
        (["DELETE a"], {}, {"a": "1"}, "it is still a product"),
        (
            ["MATCH * WITH MATERIALS FROM package"],
            {},
            {"a": "1"},
            'finds no "a" in the',
        ),
        (
            ["MATCH a WITH PRODUCTS IN x FROM package"],
            {},
            {"a": "1"},
            'finds no "x/a" in',
        ),
        (["ALLOW b"], {}, {"a": "1"}, None),
        ([], {}, {"a": "1"}, None),
    ],
)
def test_why_no_rule_took_it(
    rules: list[str], before: dict[str, str], after: dict[str, str], why: str | None
) -> None:
    allowed = ["ALLOW", "out/*"]
    words = [allowed, *(rule.split() for rule in rules)]
    pipe = judged(words, before=before, after=after)
    found = only(pipe.ours())
    assert (found.reason, found.rule, found.artifact) == ("rule", "DISALLOW *", "a")
    if why is None:
        assert found.found == 'product "a"'
    else:
        assert found.found is not None
        assert why in found.found
    assert pipe.theirs() is not None
    # Without the last rule, in-toto lets it pass.
    pipe = judged(words, before=before, after=after, closed=False)
    found = only(pipe.ours())
    assert (found.reason, found.rule) == ("unexplained", None)
    assert found.stricter == stricter.DEFAULT_DENY
    assert found.text.startswith(
        'product "a" of step build is accounted for by no rule'
    )
    assert found.wanted is not None
    assert found.wanted.endswith("or step build without it")
    assert pipe.theirs() is None


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("CREATE *", "it was a material already"),
        ("MODIFY *", "it is no product"),
        ("DELETE b", None),
    ],
)
def test_why_no_rule_took_a_material(rule: str, why: str | None) -> None:
    pipe = pipeline()
    pipe.step("build")["expected_materials"] = [rule.split(), list(CLOSED)]
    found = only(pipe.ours())
    assert (found.artifact, found.rule) == ("src/a.c", "DISALLOW *")
    assert found.found == (
        'material "src/a.c"' if why is None else f'"{rule}" does not take it: {why}'
    )
    pipe.step("build")["expected_materials"] = [["DELETE", "src/*"], list(CLOSED)]
    assert pipe.ours().findings == ()
    pipe.link("build")["products"]["src/a.c"] = digest("source")
    pipe.step("build")["expected_products"].insert(0, ["ALLOW", "src/*"])
    found = only(pipe.ours())
    assert found.found == '"DELETE src/*" does not take it: it is still a product'


def test_rules_that_consume() -> None:
    rules = ["CREATE new", "MODIFY changed", "ALLOW kept", "CREATE out/*"]
    pipe = judged(
        [rule.split() for rule in rules],
        before={"changed": "1", "kept": "1"},
        after={"changed": "2", "kept": "1", "new": "1"},
    )
    found = pipe.ours()
    assert found.findings == ()
    rows = found.trace["steps"][0]["rules"]
    assert [row["consumed"] for row in rows if row["of"] == "products"] == [
        1,
        1,
        1,
        1,
        0,
    ]
    assert pipe.theirs() is None


def test_modify_needs_another_content() -> None:
    """Another set of algorithms is no other content; in-toto thinks it is."""
    pipe = judged(
        [["MODIFY", "a"], ["CREATE", "*"]], before={"a": "1"}, after={"a": "1"}
    )
    pipe.link("build")["products"]["a"] = {**digest("1"), "sha512": "ab" * 64}
    assert pipe.theirs() is None
    assert only(pipe.ours()).artifact == "a"
    pipe.link("build")["products"]["a"] = {**digest("2"), "sha512": "ab" * 64}
    assert pipe.ours().findings == ()
    # Nothing in common says neither that it is the same nor that it is not.
    pipe.link("build")["products"]["a"] = {"sha512": "ab" * 64}
    assert only(pipe.ours()).artifact == "a"


def test_a_required_artifact() -> None:
    require = ["REQUIRE", "report.txt"]
    pipe = judged([require, ["CREATE", "*"]], before={}, after={"report.txt": "1"})
    assert pipe.ours().findings == ()
    del pipe.link("build")["products"]["report.txt"]
    found = only(pipe.ours())
    assert (found.reason, found.artifact) == ("rule", "report.txt")
    assert found.text == (
        'product "report.txt" of step build is required by "REQUIRE report.txt": '
        "no such product"
    )
    assert found.wanted == 'a product "report.txt" in each link of step build'
    assert pipe.theirs() is not None


def test_a_required_artifact_that_a_rule_consumed_before() -> None:
    require = ["REQUIRE", "report.txt"]
    pipe = judged([["CREATE", "*"], require], before={}, after={"report.txt": "1"})
    found = only(pipe.ours())
    assert found.found == 'consumed before by "CREATE *"'
    assert found.wanted == "the REQUIRE above the rule that consumes it"
    assert pipe.theirs() is not None


def test_match_with_directories() -> None:
    pipe = pipeline()
    pipe.step("package")["expected_materials"][0] = [
        "MATCH",
        "*",
        "IN",
        "in/a",
        "WITH",
        "PRODUCTS",
        "IN",
        "out",
        "FROM",
        "build",
    ]
    pipe.link("package")["materials"] = {"in/a/a": digest("program")}
    assert pipe.ours().findings == ()
    assert pipe.theirs() is None
    pipe.link("package")["materials"] = {"in/ab/a": digest("program")}
    assert pipe.ours().findings[0].artifact == "in/ab/a"
    assert pipe.theirs() is not None


# --- 5 and 6: this release -----------------------------------------------------------


def unrelated(*rules: list[str]) -> Pipeline:
    """Return a pipeline with a step that looks at an artifact of another release."""
    pipe = pipeline()
    pipe.layout["steps"].insert(
        0,
        world.step("scan", "second", materials=[("ALLOW", "*")], products=[*rules]),
    )
    link = world.link("scan", materials={"other": digest("other")}, products={})
    pipe.links.append(("scan", link, ("second",)))
    return pipe


def test_a_step_that_has_nothing_to_do_with_the_release() -> None:
    pipe = unrelated()
    found = only(pipe.ours())
    assert (found.reason, found.step) == ("unconnected", "scan")
    assert found.found == "no MATCH rule between it and another step"
    assert found.wanted == (
        "a MATCH rule that consumes an artifact with content, between it and a step "
        "that is joined with step package"
    )
    assert pipe.ours().trace["steps"][0]["connected"] is False
    assert pipe.theirs() is None


@pytest.mark.parametrize(
    "empty",
    [
        EMPTY,
        {"sha512": hashlib.sha512().hexdigest()},
        {**EMPTY, "sha512": hashlib.sha512().hexdigest()},
    ],
)
def test_an_empty_file_joins_nothing(empty: dict[str, str]) -> None:
    """Every pipeline has an `__init__.py` without content."""
    pipe = unrelated()
    rule = ["MATCH", "__init__.py", "WITH", "PRODUCTS", "FROM", "build"]
    pipe.step("scan")["expected_materials"].insert(0, rule)
    pipe.step("build")["expected_products"].insert(0, ["ALLOW", "__init__.py"])
    pipe.link("scan")["materials"]["__init__.py"] = empty
    pipe.link("build")["products"]["__init__.py"] = empty
    assert only(pipe.ours()).reason == "unconnected"
    assert only(pipe.ours()).found == (
        'nothing with content for "MATCH __init__.py WITH PRODUCTS FROM build" of step '
        "scan"
    )
    pipe.link("scan")["materials"]["__init__.py"] = digest("x")
    pipe.link("build")["products"]["__init__.py"] = digest("x")
    assert pipe.ours().findings == ()


def test_a_step_that_matches_itself_is_not_joined() -> None:
    pipe = unrelated()
    rule = ["MATCH", "*", "WITH", "MATERIALS", "FROM", "scan"]
    pipe.step("scan")["expected_materials"].insert(0, rule)
    assert only(pipe.ours()).reason == "unconnected"


def test_steps_are_joined_through_others_and_in_any_direction() -> None:
    pipe = unrelated()
    pipe.link("scan")["materials"] = {"src/a.c": digest("source")}
    rule = ["MATCH", "src/*", "WITH", "MATERIALS", "FROM", "build"]
    pipe.step("scan")["expected_materials"].insert(0, rule)
    found = pipe.ours()
    assert found.findings == ()
    assert [(one["from"], one["to"]) for one in found.trace["edges"]] == [
        ("build", "package"),
        ("build", "scan"),
    ]


def test_edges_of_several_rules_are_one() -> None:
    pipe = pipeline()
    rule = ["MATCH", "out/b", "WITH", "PRODUCTS", "FROM", "build"]
    pipe.step("package")["expected_materials"].insert(0, rule)
    pipe.link("build")["products"]["out/b"] = digest("b")
    pipe.link("package")["materials"]["out/b"] = digest("b")
    assert pipe.ours().trace["edges"] == [
        {"from": "build", "to": "package", "artifacts": 2, "example": "out/a"}
    ]


def test_products_that_went_nowhere() -> None:
    """Two runs start from the same sources: those alone tie no link to this run."""
    pipe = pipeline()
    sources = ["MATCH", "src/*", "WITH", "MATERIALS", "FROM", "build"]
    pipe.step("package")["expected_materials"].insert(0, sources)
    pipe.link("package")["materials"]["src/a.c"] = digest("source")
    assert pipe.ours().findings == ()
    pipe.link("package")["materials"].pop("out/a")
    found = only(pipe.ours())
    assert (found.reason, found.step, found.artifact) == (
        "unconnected",
        "build",
        "out/a",
    )
    assert found.found == 'product "out/a", which no other step took'
    assert found.stricter == stricter.CONNECTED
    assert pipe.ours().trace["steps"][0]["connected"] is False
    assert pipe.theirs() is None
    # What has no content is nothing that it made.
    pipe.link("build")["products"]["out/a"] = EMPTY
    assert pipe.ours().findings == ()


def test_another_release() -> None:
    pipe = pipeline()
    other = Digest.of(b"another manifest")
    pipe.release = ReleaseFacts(other, {})
    found = only(pipe.ours())
    assert (found.reason, found.artifact) == ("release-product", MANIFEST)
    assert found.found == f"sha256:{ARTIFACT.short}"
    assert found.wanted == str(other)
    assert pipe.theirs() is None
    # The artifact decides, whatever else the caller says of that name.
    pipe.release = ReleaseFacts(other, {MANIFEST: ARTIFACT})
    assert only(pipe.ours()).reason == "release-product"


def test_a_component_that_was_not_made() -> None:
    pipe = pipeline()
    name, what = "release/components/p/web", Digest.of(b"web")
    pipe.release = ReleaseFacts(ARTIFACT, {MANIFEST: ARTIFACT, name: what})
    found = only(pipe.ours())
    assert (found.artifact, found.found) == (name, "no such product")
    assert pipe.ours().trace["release"]["products"][0]["name"] == name
    pipe.link("package")["products"][name] = {"sha256": what.hex}
    assert pipe.ours().findings == ()
    pipe.link("package")["products"][name] = {"sha512": "ab" * 64}
    assert only(pipe.ours()).found == "sha512:abababababab"
    # And one that was made and is not in the release.
    pipe.link("package")["products"][name] = {"sha256": what.hex}
    pipe.release = ReleaseFacts(ARTIFACT, {})
    found = only(pipe.ours())
    assert (found.reason, found.artifact) == ("release-product", name)
    assert "which the release does not have" in found.text
    # What else lies there is the layout's business.
    pipe.link("package")["products"].pop(name)
    pipe.link("package")["products"]["release/notes.txt"] = digest("notes")
    assert pipe.ours().findings == ()


def test_a_record_that_says_something_else() -> None:
    pipe = pipeline()
    what = Digest.of(b"name, version, components, images")
    demanded = {MANIFEST: ARTIFACT, world.RECORD: what}
    pipe.release = ReleaseFacts(ARTIFACT, demanded)
    found = only(pipe.ours())
    assert (found.reason, found.step) == ("release-product", "package")
    assert (found.artifact, found.found) == (world.RECORD, "no such product")
    assert found.text.startswith('step package recorded no "release/record", so')
    assert found.wanted is not None
    assert found.wanted.startswith(f"{what}, which `attest run --release DIST`")
    assert found.stricter == stricter.RELEASE_PRODUCT
    assert pipe.ours().trace["release"]["products"][0]["name"] == world.RECORD
    assert pipe.theirs() is None
    pipe.link("package")["products"][world.RECORD] = digest("another version")
    found = only(pipe.ours())
    assert "says something else than what step package recorded" in found.text
    assert str(found.found).startswith("sha256:")
    pipe.link("package")["products"][world.RECORD] = {"sha256": what.hex}
    assert pipe.ours().findings == ()
    # What is another release altogether is said once, by its cause.
    pipe.release = ReleaseFacts(Digest.of(b"other"), demanded)
    pipe.link("package")["products"].pop(world.RECORD)
    assert only(pipe.ours()).artifact == MANIFEST
    rows = pipe.ours().trace["release"]["products"]
    assert [one["outcome"] for one in rows] == ["failed", "failed"]


def test_a_release_by_sha512() -> None:
    pipe = pipeline()
    pipe.release = ReleaseFacts(Digest("sha512", "ab" * 64), {})
    pipe.link("package")["products"][MANIFEST] = {"sha512": "ab" * 64}
    assert pipe.ours().findings == ()
    pipe.link("package")["products"][MANIFEST] = {"sha256": "ab" * 32}
    assert only(pipe.ours()).reason == "release-product"


# --- determinism and bounds ----------------------------------------------------------


def test_the_order_of_links_changes_nothing() -> None:
    pipe = two_builders()
    pipe.links[-1][1]["products"]["out/b"] = digest("other")
    pipe.links.append(("lint", pipe.link("build"), ("builder",)))
    pipe.links.append(("build", pipe.link("build"), ("mallory",)))
    first = pipe.ours()
    assert len(first.findings) == 3
    for files in itertools.permutations(pipe.files()):
        assert pipe.ours(files=files) == first


def test_a_trace_is_bounded() -> None:
    pipe = pipeline()
    long = "n" * 4000
    products = {f"out/{long}{number}": digest("x") for number in range(20)}
    rules = [["ALLOW", f"{one}-*"] for one in range(200)]
    pipe.step("build")["expected_products"] = [["DISALLOW", "out/n*"], *rules]
    pipe.link("build")["products"] |= products | {
        f"{number}-{other}": digest("x") for number in range(200) for other in range(12)
    }
    found = pipe.ours()
    refused = found.findings[0]
    assert refused.text.endswith("(and 19 more)")
    rows = found.trace["steps"][0]["rules"]
    assert max(len(row["artifacts"]) for row in rows) == 10
    assert sum(len(row["artifacts"]) for row in rows) == MOST_ARTIFACTS
    assert rows[2]["artifacts"][0].endswith("…")
    assert len(rows[2]["artifacts"][0]) == MOST_TEXT
    assert rows[-1]["rule"] == END
    assert len(json.dumps(found.trace)) < 200_000
    assert max(len(one.text) for one in found.findings) < 1000


def test_names_of_strangers_close_no_quotes() -> None:
    pipe = pipeline()
    pipe.link("package")["products"]['evil" is fine'] = digest("evil")
    assert r'product "evil\" is fine" of step' in only(pipe.ours()).text


def test_eight_threads_agree_with_one() -> None:
    """Different releases at once: no state is shared, nothing is of the process."""
    pipes = []
    for number in range(8):
        pipe = pipeline()
        pipe.link("build")["products"]["out/a"] = digest(f"program {number}")
        if number % 2:
            pipe.link("package")["materials"]["out/a"] = digest(f"program {number}")
        pipes.append(pipe)
    alone = [pipe.ours() for pipe in pipes]
    start = threading.Barrier(8)

    def verify(pipe: Pipeline) -> Any:
        start.wait()
        return [pipe.ours() for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(verify, pipes))
    assert together == [[one] * 3 for one in alone]
    assert [not one.findings for one in alone] == [False, True] * 4
