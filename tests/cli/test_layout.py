"""`layout build`, `layout sign`, `layout show`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Never

import pytest

from margo_supplychain.cli import layout_describe
from margo_supplychain.cli.author import Author
from margo_supplychain.errors import FetchError
from margo_supplychain.provenance.rules import ArtifactRule
from margo_supplychain.signing.keys import parse_public_key
from tests.cli.running import run, run_json, validate
from tests.cli.vendor import NAME, Vendor, date, files_below

if TYPE_CHECKING:
    from pathlib import Path

BY = (
    *("--by", "build=builder.pub", "--by", "test=tester.pub"),
    *("--by", "package=packer.pub"),
)


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    found = Vendor(place, secret)
    for name in ("builder", "tester", "packer"):
        found.key(f"{name}.key")
    return found


def template(*options: str) -> None:
    ran = run("layout", "build", "--template", "build-test-package", *BY, *options)
    assert ran.status == 0, ran.err


def built(vendor: Vendor) -> None:
    template()
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 0, ran.err


def sign_json(vendor: Vendor, *arguments: str) -> dict[str, Any]:
    return vendor.sign_json("layout-sign", "layout", "sign", *arguments, "--yes")


# --- build ---------------------------------------------------------------------------


def test_a_template_is_reviewed_and_built(vendor: Vendor) -> None:
    ran = run("layout", "build", "--template", "build-test-package", *BY)
    assert ran.err == ""
    assert ran.out == (
        "wrote layout.toml: build, then test, then package\n"
        "  look at it  each rule says why it is there; change it to fit\n"
        "next: margo-supplychain layout build layout.toml\n"
    )
    ran = run("layout", "build", "layout.toml")
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0] == f"built layout.json: 3 steps, until {date(730)}"
    assert lines[1].startswith("  payload  sha256 ")
    assert lines[2:] == [
        "  build    build",
        "  test     test",
        "  package  package",
        "next: margo-supplychain layout sign layout.json --key …",
    ]
    # Another day's period would be another layout: nothing is written over it.
    (vendor.place / "layout.toml").write_text(
        (vendor.place / "layout.toml").read_text().replace("730d", "700d")
    )
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert ran.err.startswith("error: layout.json exists, and is another file")


def test_build_as_json(vendor: Vendor) -> None:
    document = run_json(
        *("layout-template", "layout", "build", "--template", "two-builders-agree"),
        *("--by", "build=builder.pub", "--by", "build=tester.pub"),
        *("--by", "package=packer.pub", "--expires", "2031-01-01"),
        *("--readme", 'How "pump" is made', "--out", "two.toml"),
    )
    assert document["result"] == {
        "file": "two.toml",
        "template": "two-builders-agree",
        "steps": ["build", "package"],
    }
    document = run_json("layout-build", "layout", "build", "two.toml")
    found = document["result"]["layout"]
    assert found["expires"] == "2031-01-01T00:00:00Z"
    assert found["releaseStep"] == "package"
    assert found["signatures"] == []
    assert found["steps"][0]["threshold"] == 2
    assert found["steps"][0]["keyIds"] == [
        vendor.key_id("builder.key"),
        vendor.key_id("tester.key"),
    ]
    assert found["readme"].startswith('How "pump" is made\n\nfunctionaries: build-1 ')
    assert document["result"]["warnings"] == []


def test_keys_lie_beside_the_file(vendor: Vendor) -> None:
    (vendor.place / "layouts").mkdir()
    template("--out", "layouts/pump.toml")
    text = (vendor.place / "layouts/pump.toml").read_text()
    assert '"build" = "../builder.pub"' in text
    assert run("layout", "build", "layouts/pump.toml").status == 0
    assert (vendor.place / "layouts/pump.json").exists()


def test_yaml_is_built_and_its_mistakes_have_lines(vendor: Vendor) -> None:
    pem = (vendor.place / "builder.pub").read_text()
    indented = "\n".join(f"    {line}" for line in pem.splitlines())
    (vendor.place / "one.yaml").write_text(
        f"expires: 30d\nfunctionaries:\n  me: |\n{indented}\n"
        "steps:\n  - name: package\n    by: [me]\n    materials: [DISALLOW *]\n"
        "    products: [REQUIRE release/manifest, ALLOW release/*, DISALLOW *]\n"
    )
    ran = run("layout", "build", "one.yaml", "--out", "one.json")
    assert (ran.status, ran.err) == (0, "")
    text = (vendor.place / "one.yaml").read_text()
    (vendor.place / "one.yaml").write_text(text.replace("ALLOW rel", "PERMIT rel"))
    ran = run("layout", "build", "one.yaml", "--out", "two.json")
    assert ran.status == 2
    assert ran.err.startswith('error: one.yaml:11:42: steps[0].products[1] is "PERMIT')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the FILE to build, or a --template"),
        (
            ("a.toml", "--template", "two-builders-agree"),
            "name the FILE to build, or a",
        ),
        (("a.toml",), "a.toml: no such file, expected a layout in TOML or YAML"),
        (("a.toml", "--by", "build=a.pub"), "--by, --expires and --readme go with --t"),
        (("a.toml", "--expires", "9d"), "--by, --expires and --readme go with --templ"),
        (("--template", "other"), "invalid value for '--template'"),
        (
            ("--template", "build-test-package", "--by", "build"),
            "--by 'build' is not STEP=KEY.pub",
        ),
        (
            ("--template", "build-test-package", *BY[:2]),
            "step test of build-test-package needs 1 functionary, 0 given",
        ),
        (
            ("--template", "build-test-package", *BY[:2], *BY[:2]),
            "--by 'build=builder.pub' is given twice",
        ),
        (
            ("--template", "build-test-package", *BY, "--by", "test=absent.pub"),
            "absent.pub: no such file, expected a public key",
        ),
        (
            ("--template", "build-test-package", *BY, "--by", "test=tester.key"),
            "tester.key holds a private key",
        ),
        (
            ("--template", "build-test-package", *BY, "--expires", "soon"),
            "--expires is 'soon', expected a date (2031-01-01) or a period (730d)",
        ),
        (
            ("--template", "build-test-package", *BY, "--by", "deploy=builder.pub"),
            "build-test-package has no step 'deploy'",
        ),
    ],
)
def test_build_refuses(
    vendor: Vendor, arguments: tuple[str, ...], message: str
) -> None:
    before = files_below(vendor.place)
    ran = run("layout", "build", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err
    assert files_below(vendor.place) == before


def test_a_layout_that_proves_nothing_is_not_written(vendor: Vendor) -> None:
    template()
    path = vendor.place / "layout.toml"
    text = path.read_text()
    path.write_text(text.replace('"REQUIRE release/manifest", ', ""))
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert "has 0 release steps, expected exactly 1" in ran.err
    path.write_text(text.replace('  "DISALLOW *",\n', ""))
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert ran.err.startswith("error: the layout proves nothing: ")
    path.write_text(
        text.replace('expires = "', 'supported-until = "2099-01-01"\nexpires = "')
    )
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert "before the support of its releases ends" in ran.err
    assert not (vendor.place / "layout.json").exists()


def test_what_is_weak_is_said(vendor: Vendor) -> None:
    template()
    path = vendor.place / "layout.toml"
    text = path.read_text()
    for name in ("test", "package"):
        text = text.replace(f'by = ["{name}"]', 'by = ["build"]')
        text = "\n".join(one for one in text.splitlines() if f'"{name}" =' not in one)
    path.write_text(text)
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 0
    assert ran.err.startswith("note: one functionary does every step: ")


# --- sign ----------------------------------------------------------------------------


def test_sign_without_a_repository(vendor: Vendor) -> None:
    built(vendor)
    ran = vendor.sign("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    assert ran.status == 0, ran.err
    builder = vendor.key_id("builder.key")[:12]
    assert ran.out == (
        f"signed by {builder}\n"
        "next: margo-supplychain app policy PUBLISHER/NAME --layout layout.json "
        "--serves RANGE\n"
    )
    # What is signed is shown, also to scripts.
    assert "step package, which makes the release\n" in ran.err
    ran = vendor.sign(
        "-q", "layout", "sign", "layout.json", "--key", "builder.key", "--yes"
    )
    assert (ran.err, ran.out.splitlines()[0]) == ("", "unchanged: signed before")


def test_long_layouts_do_not_scroll_away_unsaid(vendor: Vendor) -> None:
    template()
    text = (vendor.place / "layout.toml").read_text()
    rules = ", ".join(f'"ALLOW src{number}/*"' for number in range(120))
    changed = text.replace('"ALLOW *"', f'{rules}, "ALLOW *"', 1)
    (vendor.place / "layout.toml").write_text(changed)
    assert run("layout", "build", "layout.toml").status == 0
    ran = vendor.sign("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    assert ran.status == 0
    assert "lines, and each rule among them decides: margo-supplychain layou" in ran.err
    # What is wrong a thousand times is said a few times.
    rules = ", ".join(
        f'"ALLOW {number}*", "MATCH {number}* WITH PRODUCTS FROM test"'
        for number in range(200)
    )
    (vendor.place / "layout.toml").write_text(
        text.replace('"ALLOW *"', f'{rules}, "ALLOW *"', 1)
    )
    ran = run("layout", "build", "layout.toml", "--out", "wrong.json")
    assert ran.status == 2
    assert "; and 195 more" in ran.err
    assert len(ran.err) < 4_000


def test_sign_asks_before(vendor: Vendor) -> None:
    built(vendor)
    before = files_below(vendor.place)
    ran = vendor.sign("layout", "sign", "layout.json", "--key", "builder.key")
    assert ran.status == 2
    assert files_below(vendor.place) == before


def publisher(vendor: Vendor) -> None:
    """Make a repository whose publisher acme has two of three keys."""
    for name in ("root", "targets", "a", "b", "c", "ci"):
        vendor.key(f"{name}.key")
    vendor.must(
        *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
        *("--root-key", "root.key", "--targets-key", "targets.key"),
        *("--publisher-key", "a.key", "--publisher-key", "b.key"),
        *("--publisher-key", "c.key", "--publisher-threshold", "2"),
        *("--online-key", "ci.key"),
    )


def test_two_of_three_sign_in_turn(vendor: Vendor) -> None:
    publisher(vendor)
    built(vendor)
    a, b, c = (vendor.key_id(f"{one}.key") for one in "abc")
    document = sign_json(
        vendor,
        "layout.json",
        "--key",
        "a.key",
        "--publisher",
        "acme",
        "--out",
        "1.json",
    )
    assert (document["ok"], document["exit"]) == (False, 5)
    assert document["result"]["addedKeyIds"] == [a]
    assert document["result"]["standing"] == {
        "publisher": "acme",
        "threshold": 2,
        "complete": False,
        "signed": [a],
        "missing": [b, c],
    }
    # The file that was handed over stays as it was.
    assert "payloadType" not in json.loads((vendor.place / "layout.json").read_text())
    ran = run("layout", "show", "1.json", "--publisher", "acme")
    assert ran.status == 0
    assert "signed: 1 of 2 of acme\n" in ran.out
    assert f"incomplete: acme needs 1 more of {b[:12]}, {c[:12]}\n" in ran.out
    ran = vendor.sign(
        *("layout", "sign", "1.json", "--key", "c.key", "--publisher", "acme", "--yes")
    )
    assert ran.status == 0
    assert ran.out == (
        f"signed by {c[:12]}\n"
        "signed: 2 of 2 of acme\n"
        "next: margo-supplychain app policy acme/NAME --layout 1.json --serves RANGE\n"
    )
    ran = vendor.sign(
        *("layout", "sign", "layout.json", "--key", "a.key", "--publisher", "acme"),
        *("--yes", "--repo", "trust"),
    )
    assert ran.status == 5
    assert f"next: send layout.json to whoever holds {b[:12]}: " in ran.out


def test_a_strangers_signature_counts_for_nobody(vendor: Vendor) -> None:
    publisher(vendor)
    built(vendor)
    ran = vendor.sign(
        *("layout", "sign", "layout.json", "--key", "builder.key", "--yes"),
        *("--publisher", "acme"),
    )
    assert ran.status == 5
    assert "is none of acme's: its signature counts for nobody\n" in ran.err
    assert "signed: 0 of 2 of acme\n" in ran.out
    ran = vendor.sign(
        *("layout", "sign", "layout.json", "--key", "a.key", "--yes"),
        *("--publisher", "bolt"),
    )
    assert ran.status == 2
    assert ran.err.startswith("error: there is no publisher bolt in ")


def test_signatures_that_came_meanwhile_are_kept(vendor: Vendor) -> None:
    publisher(vendor)
    built(vendor)
    sign = ("layout", "sign", "layout.json", "--yes", "--out", "both.json")
    assert vendor.sign(*sign, "--key", "a.key").status == 5
    ran = vendor.sign(*sign, "--key", "b.key")
    assert (ran.status, ran.err.count("layout: 3 steps")) == (0, 1)
    assert "signed: 2 of 2 of acme\n" in ran.out
    before = (vendor.place / "layout.toml").read_bytes()
    ran = vendor.sign(
        *("layout", "sign", "layout.json", "--key", "a.key", "--yes"),
        *("--out", "layout.toml"),
    )
    assert ran.status == 2
    assert ran.err.splitlines()[-2].startswith("error: layout.toml exists, and is anot")
    assert (vendor.place / "layout.toml").read_bytes() == before


def test_a_repository_out_of_reach_stops_no_holder(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of a place name it; whoever types it wants to be told."""
    built(vendor)
    place = "oci://registry.example/acme/trust"
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_REPO", place)
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_PUBLISHER", "acme")

    def look(author: Author) -> Never:
        raise FetchError(f"{author.place} does not answer", url=author.place)

    monkeypatch.setattr(Author, "look", look)
    sign = ("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    ran = vendor.sign(*sign, "--repo", place)
    assert ran.status == 4
    ran = vendor.sign(*sign)
    assert ran.status == 0, ran.err
    assert f"note: who signs for acme is not known here: {place} does not" in ran.err
    ran = run("layout", "show", "layout.json")
    assert ran.status == 0
    assert ran.out.endswith(": not verified\n")


def test_what_can_not_be_signed(vendor: Vendor) -> None:
    built(vendor)
    path = vendor.place / "layout.json"
    data = json.loads(path.read_text())

    def refused(message: str) -> None:
        before = path.read_bytes()
        ran = vendor.sign("layout", "sign", "layout.json", "--key", "a.key", "--yes")
        assert ran.status == 2
        assert ran.err.startswith(f"error: {message}"), ran.err
        assert path.read_bytes() == before

    path.write_text(json.dumps({**data, "expires": "2020-01-01T00:00:00Z"}))
    refused("layout.json has expired: devices refuse what is made by it")
    path.write_text(json.dumps({**data, "steps": []}))
    refused("layout.json has no steps")
    path.write_text("{}")
    refused("layout.json has no field '_type'")
    path.write_text("no json")
    refused("layout.json")
    path.unlink()
    ran = vendor.sign("layout", "sign", "layout.json", "--key", "builder.key")
    assert ran.err.startswith("error: layout.json: no such file, expected a layout")


# --- show ----------------------------------------------------------------------------


def test_show_in_plain_words(vendor: Vendor) -> None:
    built(vendor)
    ran = run("layout", "show", "layout.json")
    builder, tester, packer = (
        vendor.key_id(f"{one}.key")[:12] for one in ("builder", "tester", "packer")
    )
    lines = ran.out.splitlines()
    assert lines[0].startswith(
        f"layout: 3 steps, 3 functionaries, until {date(730)}, in"
    )
    at = lines.index("step build")
    match = "anything exactly as it"
    assert lines[at:] == [
        "step build",
        f"  by   {builder}",
        "  in   REQUIRE git/commit  git/commit: it must be there",
        "       DISALLOW git/dirty  never git/dirty",
        "       ALLOW *             anything else",
        "  out  CREATE *            anything that is new",
        "       DISALLOW *          nothing else",
        "step test",
        f"  by   {tester}",
        f"  in   MATCH * WITH PRODUCTS FROM build   {match} came out of build",
        f"       MATCH * WITH MATERIALS FROM build  {match} went into build",
        "       DISALLOW *                         nothing else",
        "  out  DISALLOW *                         nothing else",
        "step package, which makes the release",
        f"  by   {packer}",
        f"  in   MATCH * WITH MATERIALS FROM test  {match} went into test",
        "       ALLOW release/components/*        release/components/*",
        "       DISALLOW *                        nothing else",
        "  out  REQUIRE release/manifest          release/manifest: it must be there",
        "       ALLOW release/*                   release/*",
        "       DISALLOW *                        nothing else",
        "  signed  by nobody: not verified",
    ]


def test_show_as_pictures_and_json(vendor: Vendor) -> None:
    built(vendor)
    vendor.must("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    document = run_json(
        *("layout-show", "layout", "show", "layout.json"),
        *("--svg", "layout.svg", "--dot", "layout.dot"),
    )
    assert document["result"]["standing"] is None
    assert document["result"]["layout"]["signatures"] == [vendor.key_id("builder.key")]
    root = ET.parse(vendor.place / "layout.svg").getroot()  # noqa: S314 - made here
    assert root[0].text == "How a release is made: layout.json"
    assert root[1].text == (
        "Step build: 1 of 1 must sign. Step test: 1 of 1 must sign, takes from build. "
        "Step package, which makes the release: 1 of 1 must sign, takes from test."
    )
    dot = (vendor.place / "layout.dot").read_text()
    assert '"step build" -> "step test" [label="* of its products, * of its' in dot
    assert '"in build" [label="git/commit: it must be there\\nanything", ' in dot
    ran = run("layout", "show", "layout.json", "--svg", "layout.svg")
    assert ran.out.endswith(": not verified\nwrote layout.svg\n")
    assert f"claims to be by {vendor.key_id('builder.key')[:12]}" in ran.out
    # A name that is typed may be that of a private key.
    before = files_below(vendor.place)
    for option in ("--svg", "--dot"):
        ran = run("layout", "show", "layout.json", option, "builder.key")
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("error: builder.key exists, and is another file")
    assert files_below(vendor.place) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a FILE, or an application with --app"),
        (("layout.json", "--app", NAME), "name a FILE, or an application with --app"),
        (("layout.json", "--number", "1"), "--number goes with --app"),
        (("layout.json", "--svg", "./layout.json"), "one file is named twice"),
        (("layout.json", "--svg", "a", "--dot", "./a"), "one file is named twice"),
        (("absent.json",), "absent.json: no such file, expected a layout"),
    ],
)
def test_show_refuses(vendor: Vendor, arguments: tuple[str, ...], message: str) -> None:
    built(vendor)
    ran = run("layout", "show", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err


def test_show_what_a_publisher_lists(vendor: Vendor) -> None:
    vendor.application()
    ran = run("layout", "show", "--app", NAME)
    assert ran.status == 2
    assert ran.err.startswith(f"error: {NAME} has no layout [refused]\nhint: list one")
    built(vendor)
    vendor.must("layout", "sign", "layout.json", "--yes")
    vendor.must(
        "app", "policy", NAME, "--layout", "layout.json", "--serves", "^1.0", "--yes"
    )
    ran = run("layout", "show", "--app", NAME)
    assert ran.out.startswith(f"layout 1 of {NAME}: serves ^1.0\nlayout: 3 steps, ")
    assert ran.out.endswith(
        f"signed: 1 of 1 of acme\nnext: margo-supplychain app show {NAME}\n"
    )
    vendor.must(
        "app", "policy", NAME, "--layout", "layout.json", "--serves", "^2.0", "--yes"
    )
    ran = run("layout", "show", "--app", NAME)
    assert ran.status == 2
    assert ran.err.startswith(f"error: {NAME} has 2 layouts: 1, 2 ")
    ran = run("layout", "show", "--app", NAME, "--number", "3")
    assert ran.err.startswith(f"error: {NAME} has no layout 3 ")
    document = run_json(
        *("layout-show", "layout", "show", "--app", NAME, "--number", "2"),
        *("--svg", "two.svg"),
    )
    assert document["result"]["rule"]["range"] == {"grammar": "npm", "text": "^2.0"}
    assert document["result"]["standing"]["complete"] is True
    assert (vendor.place / "two.svg").exists()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("CREATE a/*", "a/* that is new"),
        ("DELETE a", "a that is gone afterwards"),
        ("MODIFY *", "anything that was changed"),
        ("DISALLOW a", "never a"),
        ("ALLOW nothing_else", "nothing_else"),
        (
            "MATCH * IN out WITH PRODUCTS IN dist FROM build",
            "anything below out/ exactly as it came out of build, below dist/ there",
        ),
    ],
)
def test_rules_in_words(rule: str, text: str) -> None:
    assert layout_describe.rule_words(ArtifactRule.parse(rule.split())) == text


def test_letters_of_other_alphabets_are_told_from_ours(vendor: Vendor) -> None:
    template()
    path = vendor.place / "layout.toml"
    text = path.read_text()
    alike = text.replace('"DISALLOW git/dirty"', '"DISALLOW git/dirt\u0443"')
    path.write_text(alike)
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert '"DISALLOW git/dirt\\u0443" reads like a name below git/, where' in ran.err
    assert not (vendor.place / "layout.json").exists()
    path.write_text(text.replace('"ALLOW *"', '"ALLOW \u0430/*", "ALLOW *"', 1))
    assert run("layout", "build", "layout.toml").status == 0
    ran = run("layout", "show", "layout.json")
    assert ["ALLOW", "\\u0430/*", "\u0430/*"] in [
        line.split() for line in ran.out.splitlines()
    ]
    # One that another tool has made is shown so, and is not signed.
    value = json.loads((vendor.place / "layout.json").read_text())
    value["steps"][0]["expected_materials"].insert(0, ["DISALLOW", "git/dirt\u0443"])
    (vendor.place / "layout.json").write_text(json.dumps(value))
    ran = run("layout", "show", "layout.json")
    assert "DISALLOW git/dirt\\u0443" in ran.out
    ran = vendor.sign("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    assert ran.status == 2
    assert "reads like a name below git/" in ran.err


def test_a_name_does_not_read_like_a_sentence() -> None:
    rule = ArtifactRule.parse(["ALLOW", "nothing else"])
    assert layout_describe.rule_words(rule) == '"nothing else"'


def test_a_step_without_rules_and_a_long_readme(vendor: Vendor) -> None:
    built(vendor)
    path = vendor.place / "layout.json"
    data = json.loads(path.read_text())
    data["readme"] = "line\n" * 1_000
    step = data["steps"][0]
    step.update(expected_products=[], expected_command=["make", "x" * 1_000])
    for one in data["steps"][1:]:
        one["pubkeys"] = step["pubkeys"]
    for number in range(8):
        name = vendor.key(f"more-{number}.key")
        public = data["keys"][step["pubkeys"][0]]
        raw = (vendor.place / f"more-{number}.pub").read_bytes()
        key = parse_public_key(raw, what=name)
        data["keys"][key.keyid] = {**public, **key.to_dict(), "keyid": key.keyid}
        step["pubkeys"] = [*step["pubkeys"], key.keyid]
    step["threshold"] = 2
    path.write_text(json.dumps(data))
    lines = run("layout", "show", "layout.json").out.splitlines()
    assert lines.count("  | line") == 20
    assert "  | …" in lines
    at = lines.index("step build")
    assert lines[at + 1].startswith("  by   2 of 9 alike: ")
    assert lines[at + 1].endswith(" and 1 more")
    assert len(lines[at + 2]) < 300
    assert "  out                      nothing" in lines


def test_schemas_take_what_is_printed(vendor: Vendor) -> None:
    built(vendor)
    document = sign_json(vendor, "layout.json", "--key", "builder.key")
    validate(document, "layout-sign")
    assert document["result"]["standing"] is None
