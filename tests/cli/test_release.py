"""`release build`, `adopt`, `publish`, `withdraw`, `show`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.cli.release_show import state_of
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.locks import ComponentKey, ComponentLock
from margo_supplychain.formats.release_entry import ReleaseEntry
from margo_supplychain.formats.versions import Version
from tests import fixtures
from tests.cli.running import run, run_json, spawn
from tests.cli.vendor import NAME, Vendor, date, files_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    return Vendor(place, secret)


@pytest.fixture
def published(vendor: Vendor) -> Vendor:
    """A vendor that has published 1.2.0."""
    vendor.application()
    vendor.publish()
    return vendor


# --- build ---------------------------------------------------------------------------


def test_build_as_printed_in_the_first_hour(vendor: Vendor) -> None:
    vendor.application()
    vendor.package()
    ran = run("release", "build", "pump-monitor", "--output", "dist")
    digest = run_json(
        "release-build", "release", "build", "pump-monitor", "--output", "dist"
    )["result"]["artifact"]
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        f"built {NAME} 1.2.0 from pump-monitor/margo.yaml (Margo v1)\n"
        f"  package     {digest[:19]}  5 layers, 4.3 kB, reproducible\n"
        "  components  2: web-stack (compose, 6.8 kB), historian (compose, 3.2 kB)\n"
        "  images      3 pinned by images.lock: closure complete\n"
        "next: margo-supplychain release publish dist\n"
    )


def test_build_needs_no_repository_and_no_key(vendor: Vendor) -> None:
    vendor.package()
    build = ("release", "build", "pump-monitor", "--output", "dist")
    ran = run(*build)
    assert ran.status == 2
    assert ran.err.startswith("error: --publisher is missing, and neither MARGO_")
    assert run(*build, "--publisher", "acme").status == 0
    ran = run(*build, "--publisher", "Acme")
    assert ran.status == 2
    assert "publisher 'Acme' is not a name" in ran.err


@pytest.mark.parametrize("name", fixtures.package_names())
def test_every_package_builds_and_has_its_document(vendor: Vendor, name: str) -> None:
    vendor.package(name)
    options = ["release", "build", name, "--output", "dist", "--publisher", "acme"]
    ran = run(*options)
    if ran.status:  # margo.yaml says no SemVer version
        assert ran.status == 2
        assert "and pins need SemVer" in ran.err
        assert "hint: name the version to sign beside it: --version " in ran.err
        version = ran.err.rpartition("--version ")[2].strip()
        options += ["--version", version]
        ran = run(*options)
    assert ran.status == 0, ran.err
    assert ran.out.startswith(f"built acme/{name} ")
    document = run_json("release-build", *options)["result"]
    assert f"closure {document['closure']}\n" in ran.out
    if document["closure"] == "partial":
        assert "note: " in ran.err
        assert "partial" in ran.err


def test_a_wrong_package_gets_all_its_problems(vendor: Vendor) -> None:
    package = vendor.package()
    file = package / "margo.yaml"
    text = file.read_text()
    text = text.replace("- type: compose", "- type: helm.v4")
    text = text.replace("icon: resources/pump.png", "icon: resources/gone.png")
    file.write_text(text)

    def place(what: str) -> str:
        for number, line in enumerate(text.splitlines(), 1):
            if what in line:
                return f"margo.yaml:{number}:{line.index(what) + 1}"
        raise AssertionError(what)

    ran = run(
        *("release", "build", "pump-monitor", "--output", "dist"),
        *("--publisher", "acme"),
    )
    assert (ran.status, ran.out) == (2, "")
    lines = ran.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"error: {place('resources/gone.png')}: ")
    assert "resources/gone.png" in lines[0]
    assert lines[1].startswith(
        f'error: {place("helm.v4")}: deploymentProfiles[0].type is "helm.v4", expected '
    )
    assert all(line.endswith(" [application-format]") for line in lines[:2])
    assert lines[2] == "hint: nothing was built; all problems are listed above"
    assert not (vendor.place / "dist").exists()
    document = run_json(
        *("error", "release", "build", "pump-monitor", "--output", "dist"),
        *("--publisher", "acme"),
    )
    assert len(document["error"]["facts"]["problems"]) == 2


def test_build_refuses(vendor: Vendor) -> None:
    vendor.package()
    (vendor.place / "full").mkdir()
    (vendor.place / "full" / "mine").write_text("precious")
    for directory, output, message in (
        ("absent", "dist", "absent is not a directory"),
        ("full", "dist", "full holds no margo.yaml"),
        ("pump-monitor", "full", "output full holds mine, which release build did not"),
        ("pump-monitor", "pump-monitor/resources", "output pump-monitor/resources and"),
    ):
        ran = run(
            *("release", "build", directory, "--output", output),
            *("--publisher", "acme"),
        )
        assert ran.status == 2
        assert ran.err.startswith(f"error: {message}"), ran.err
    assert not (vendor.place / "dist").exists()


def test_a_location_is_a_hint_in_the_record(vendor: Vendor) -> None:
    vendor.application()
    vendor.package()
    where = "oci://registry.example/acme/pump-monitor"
    options = ("release", "build", "pump-monitor", "--output", "dist")
    assert run(*options, "--location", where).status == 0
    vendor.must("release", "publish", "dist")
    assert f"  location   {where}\n" in run("release", "show", NAME, "1.2.0").out
    ran = run(*options, "--location", "not a place")
    assert ran.status == 2


# --- publish -------------------------------------------------------------------------


def test_publish_as_printed_in_the_first_hour(vendor: Vendor) -> None:
    vendor.application()
    vendor.build()
    ran = vendor.must("release", "publish", "dist")
    assert ran.err == ""
    assert ran.out == (
        f"published {NAME} 1.2.0\n"
        "  record   acme/releases/pump-monitor/1.2.0  in role acme.pump-monitor v2, "
        "expires in 180 days\n"
        "  checked  as a device would, from root v1 and from the previous state\n"
        "  where    trust  (11 blobs new, 0 already there)\n"
        f"  fresh    timestamp v3, until {date(4)}; `repo refresh` keeps it so (a "
        "scheduled job: docs/how-to/ci.md)\n"
    )


def test_publishing_the_same_twice_changes_nothing(published: Vendor) -> None:
    before = files_below(published.place / "trust")
    ran = published.must("release", "publish", "dist-1.2.0")
    assert ran.out.startswith(f"published {NAME} 1.2.0 before; nothing changed\n")
    document = published.sign_json(
        "release-publish", "release", "publish", "dist-1.2.0"
    )
    assert document["result"]["changed"] is False
    assert document["result"]["releases"][0]["isNew"] is False
    assert files_below(published.place / "trust") == before


def test_a_version_never_changes(published: Vendor) -> None:
    file = published.place / "pump-monitor" / "resources" / "licence.txt"
    file.write_text("all rights reversed\n")
    published.build("1.2.0", "other")
    before = files_below(published.place / "trust")
    ran = published.sign("release", "publish", "other")
    assert ran.status == 2
    assert ran.err == (
        f"error: {NAME} 1.2.0 exists with other bytes [refused]\n"
        "hint: a release never changes: raise the version\n"
    )
    assert files_below(published.place / "trust") == before


def test_a_machine_that_has_only_the_online_key_publishes(vendor: Vendor) -> None:
    vendor.application()
    vendor.build()
    (vendor.place / "offline.key").unlink()
    vendor.must("release", "publish", "dist")
    vendor.must("release", "withdraw", NAME, "1.2.0", "--reason", "leaks")


def test_several_releases_are_one_edit(vendor: Vendor) -> None:
    vendor.application()
    vendor.build("1.2.0", "one")
    vendor.build("1.3.0", "two")
    document = vendor.sign_json(
        "release-publish", "release", "publish", "one", "two", "one"
    )
    found = document["result"]["releases"]
    assert [one["version"] for one in found] == ["1.2.0", "1.3.0"]
    assert document["result"]["timestamp"] == 3


def test_publish_with_a_release_key_of_its_own(vendor: Vendor) -> None:
    vendor.init()
    vendor.key("release.key")
    vendor.must("app", "add", NAME, "--release-key", "release.pub")
    vendor.build()
    short = vendor.key_id("release.key")[:12]
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 5
    assert ran.err.startswith(f"error: acme.pump-monitor needs 1 more of {short} [")
    ran = vendor.sign("release", "publish", "dist", "--key", "release.key")
    assert ran.status == 5
    assert ran.err.startswith("error: snapshot needs 1 more of ")
    vendor.must("release", "publish", "dist", "--key", "release.key", "--key", "ci.key")
    toml = vendor.place / "margo-supplychain.toml"
    toml.write_text(toml.read_text() + 'release-key = "release.key"\n')
    vendor.build("1.3.0", "next")
    vendor.must("release", "publish", "next")


def test_the_profile_simple_signs_releases_with_the_offline_key(vendor: Vendor) -> None:
    vendor.init("simple")
    vendor.must("app", "add", NAME)
    vendor.build()
    ran = vendor.must("release", "publish", "dist")
    assert "in role targets v3, expires in 365 days" in ran.out
    vendor.must("release", "withdraw", NAME, "1.2.0", "--reason", "leaks")
    assert run("repo", "check").status == 0


def test_publish_refuses(vendor: Vendor) -> None:
    vendor.init()
    vendor.build()
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 2
    assert ran.err.startswith(f"error: there is no application {NAME} here")
    ran = vendor.sign("release", "publish", "pump-monitor")
    assert ran.status == 2
    assert "holds no release.json: it is no finished build" in ran.err
    ran = vendor.sign("release", "publish", "absent")
    assert ran.status in {2, 4}
    assert vendor.sign("release", "publish").status == 2
    # Without a terminal and without the option nobody is asked.
    vendor.must("app", "add", NAME, "--release-key", "ci.pub")
    spawned = spawn("release", "publish", "dist", cwd=vendor.place)
    assert spawned.returncode == 6
    assert b"no terminal to ask for the passphrase of ci.key" in spawned.stderr


def test_a_build_that_was_changed_is_rejected(vendor: Vendor) -> None:
    vendor.application()
    output = vendor.build()
    blobs = output / "blobs" / "sha256"
    biggest = max(blobs.iterdir(), key=lambda one: one.stat().st_size)
    biggest.chmod(0o644)
    biggest.write_bytes(biggest.read_bytes()[::-1])
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 3
    assert "[digest-mismatch]" in ran.err
    assert "hint: dist was changed since it was built: build it again\n" in ran.err
    assert files_below(vendor.place / "trust") == before


# --- adopt ---------------------------------------------------------------------------


def test_adopt_an_artifact_by_its_digest(vendor: Vendor) -> None:
    vendor.init()
    vendor.must("app", "add", "acme/answer", "--release-key", "ci.pub")
    what = fixtures.wasm_layout(vendor.place / "layout")
    adopt = ("release", "adopt", f"layout@{what.digest}")
    release = ("--name", "acme/answer", "--version", "1.0.0")
    before = files_below(vendor.place / "layout")
    ran = vendor.must(*adopt, *release)
    assert ran.out.startswith("published acme/answer 1.0.0\n")
    document = vendor.sign_json("release-publish", *adopt, *release)
    assert document["result"]["releases"][0]["artifact"] == str(what.digest)
    assert files_below(vendor.place / "layout") == before
    ran = vendor.sign(*adopt, "--name", "acme/answer", "--version", "1.0.1")
    assert ran.status == 2
    assert "acme/answer 1.0.1 has the same bytes as 1.0.0" in ran.err
    assert "hint: it is released already: pin 1.0.0, or adopt other bytes\n" in ran.err
    ran = vendor.sign("release", "adopt", "layout:1.0.0", *release)
    assert ran.status == 2
    assert ran.err.startswith("error: 'layout:1.0.0' is not PLACE@sha256:…: a tag can")


def test_adopt_what_does_not_conform_says_so(vendor: Vendor) -> None:
    vendor.init()
    vendor.must("app", "add", "acme/hello-conveyor", "--release-key", "ci.pub")
    what = fixtures.nonconforming_layout(vendor.place / "layout")
    (vendor.place / "components.lock").write_text("format = 1\n")
    release = ("--name", "acme/hello-conveyor", "--version", "1.0.0")
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("release", "adopt", f"layout@{what.digest}", *release)
    assert ran.status == 2
    assert ran.err.splitlines()[-2:] == [
        (
            "error: acme/hello-conveyor 1.0.0 would be released without 1 component "
            "for good: hello-conveyor (oci://registry.example/conveyors/charts/"
            "hello-conveyor:1.0.1) [refused]"
        ),
        (
            "hint: give their digests by --components-lock FILE; or say --partial, and "
            "devices install none of those profiles"
        ),
    ]
    assert files_below(vendor.place / "trust") == before
    ran = vendor.must(
        *("release", "adopt", f"layout@{what.digest}", *release),
        *("--components-lock", "components.lock", "--partial"),
    )
    assert "note: " in ran.err
    assert "; closure partial\n" in ran.out
    ran = vendor.sign(
        *("release", "adopt", f"layout@{what.digest}", *release),
        *("--images-lock", "absent.lock"),
    )
    assert ran.status == 2
    assert ran.err.startswith(
        "error: absent.lock: no such file, expected a lock file [format]"
    )


def test_adopt_of_something_that_is_not_there(vendor: Vendor) -> None:
    vendor.init()
    vendor.must("app", "add", "acme/answer", "--release-key", "ci.pub")
    fixtures.wasm_layout(vendor.place / "layout")
    release = ("--name", "acme/answer", "--version", "1.0.0")
    ran = vendor.sign("release", "adopt", f"layout@sha256:{'0' * 64}", *release)
    assert ran.status == 4
    ran = vendor.sign("release", "adopt", "layout@sha256:00", *release)
    assert ran.status == 2
    assert "hint: give the whole digest: sha256: and 64" in ran.err
    ran = vendor.sign("release", "adopt", f"sha256:{'0' * 64}", *release)
    assert ran.status == 2
    assert ran.err.startswith("error: ")


# --- withdraw and show ---------------------------------------------------------------


def test_withdraw_and_show(published: Vendor) -> None:
    published.publish("1.2.1")
    ran = published.must(
        *("release", "withdraw", NAME, "1.2.0", "--reason", "leaks passwords"),
        *("--use", "1.2.1"),
    )
    assert ran.out == (
        f"withdrew {NAME} 1.2.0\n"
        "  reason   leaks passwords\n"
        "  instead  1.2.1\n"
        "  signed   acme.pump-monitor v4, snapshot v5, timestamp v5\n"
        f"next: margo-supplychain release show {NAME}\n"
    )
    listed = run_json("release-show", "release", "show", NAME)["result"]["releases"]
    newest, oldest = (one["artifact"][7:19] for one in listed)
    assert run("release", "show", NAME).out == (
        f"{NAME}: 2 releases\n"
        f"  1.2.1  {newest}\n"
        f"  1.2.0  {oldest}  withdrawn {date(0)}: leaks passwords; use 1.2.1\n"
        f"next: margo-supplychain release show {NAME} 1.2.1\n"
    )
    assert listed[1]["withdrawn"]["use"] == "1.2.1"
    text = run("release", "show", NAME, "1.2.0").out
    assert f"  state      withdrawn {date(0)}: leaks passwords; use 1.2.1\n" in text
    again = published.must(
        *("release", "withdraw", NAME, "1.2.0", "--reason", "leaks passwords"),
        *("--use", "1.2.1"),
    )
    assert again.out.startswith(f"unchanged: withdrawn before, {NAME} 1.2.0\n")
    document = published.sign_json(
        "release-withdraw", "release", "withdraw", NAME, "1.2.0", "--reason", "worse"
    )
    assert document["result"]["changed"] is True


def test_a_withdrawal_that_leads_back_says_what_allows_it(published: Vendor) -> None:
    published.publish("1.2.1")
    words = ("release", "withdraw", NAME, "1.2.1", "--reason", "x", "--use", "1.2.0")
    ran = published.sign(*words)
    command = f"margo-supplychain app policy {NAME} --downgrade-to 1.2.0"
    text = (
        "devices that confirmed 1.2.1 refuse 1.2.0, which is older, until the offline "
        f"key allows it: {command}"
    )
    assert (ran.status, ran.err) == (0, f"note: {text}\n")
    document = published.sign_json("release-withdraw", *words)
    assert document["result"]["warnings"] == [text]
    published.must(*command.split()[1:])
    assert published.sign(*words).err == ""
    # What is allowed already stays allowed.
    published.publish("1.2.2")
    published.publish("1.1.0")
    words = ("release", "withdraw", NAME, "1.2.2", "--reason", "x", "--use", "1.1.0")
    wanted = f" {NAME} --downgrade-to 1.2.0 --downgrade-to 1.1.0\n"
    assert published.sign(*words).err.endswith(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9.9.9", "--reason", "x"), f"there is no release {NAME} 9.9.9"),
        (("1.2.0",), "missing option '--reason'"),
        (("v1.2.0", "--reason", "x"), "invalid value for 'VERSION': version 'v1.2.0'"),
        (("1.2.0", "--reason", ""), "reason"),
        (("1.2.0", "--reason", "two\nlines"), "reason"),
        (
            ("1.2.0", "--reason", "x", "--use", "1.2.0"),
            "1.2.0 can't be used instead of",
        ),
        (("1.2.0", "--reason", "x", "--use", "7.0.0"), f"there is no release {NAME} 7"),
    ],
)
def test_withdraw_refuses(
    published: Vendor, arguments: tuple[str, ...], message: str
) -> None:
    before = files_below(published.place / "trust")
    ran = published.sign("release", "withdraw", NAME, *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.lower().startswith(f"error: {message}".lower()), ran.err
    assert files_below(published.place / "trust") == before
    assert "correct the file" not in ran.err


def test_the_same_bytes_under_another_version_are_marked() -> None:
    digest = Digest.of(b"package")
    entry = ReleaseEntry(artifact=digest, profiles=(), withdrawn=None)
    assert state_of(entry, {}) == ""
    said = "refused: the same bytes as 1.0.0, which is withdrawn"
    assert state_of(entry, {digest: Version.parse("1.0.0")}) == said


def test_show_one_release(published: Vendor) -> None:
    said = run("release", "show", NAME, "1.2.0").out.splitlines()
    document = run_json("release-show-one", "release", "show", NAME, "1.2.0")["result"]
    digest = document["artifact"]
    assert said[-1] == f"  pin: 1.2.0@{digest}"
    ran = run("release", "show", NAME, "1.2.0")
    lines = ran.out.splitlines()
    assert lines[0] == f"{NAME} 1.2.0"
    assert lines[1] == f"  package    {digest[:19]}"
    assert lines[2].startswith(f"  created    {date(0)} ")
    assert lines[3].startswith("  component  historian (compose)  ")
    assert lines[5] == "  images     3 pinned by images.lock: closure complete"
    assert document["record"]["artifact"]["digest"] == digest
    ran = run("release", "show", NAME, "9.9.9")
    assert ran.status == 2
    assert ran.err.startswith(f"error: there is no release {NAME} 9.9.9")
    assert run("release", "show", "acme/other").status == 2


def test_show_of_a_repository_that_was_tampered_with(published: Vendor) -> None:
    toml = published.place / "margo-supplychain.toml"
    toml.write_text('repo = "trust"\n')  # no memory that still has the true file
    role = published.place / "trust" / "metadata" / "2.acme.pump-monitor.json"
    role.chmod(0o644)
    role.write_bytes(role.read_bytes().replace(b"1.2.0", b"1.2.9"))
    ran = run("release", "show", NAME)
    assert ran.status == 3
    assert "[mix-and-match]" in ran.err
    shutil.rmtree(published.place / "trust" / "metadata")
    assert run("release", "show", NAME).status == 2


def test_components_may_lie_in_their_own_repositories(published: Vendor) -> None:
    record = run_json("release-show-one", "release", "show", NAME, "1.2.0")["result"]
    pins = {
        ComponentKey(one["name"], one["repository"], one["revision"]): Descriptor(
            media_type=one["mediaType"],
            digest=Digest.parse(one["digest"]),
            size=one["size"],
        )
        for one in record["record"]["components"]
    }
    package = published.place / "pump-monitor"
    shutil.rmtree(package / "components")
    lock = ComponentLock(components=pins).to_bytes()
    (package / "components.lock").write_bytes(lock)
    ran = run("release", "build", "pump-monitor", "--output", "elsewhere")
    assert ran.status == 0, ran.err
    assert "web-stack (compose, in its own repository), historian (compose" in ran.out
    build = ("release", "build", "pump-monitor", "--output", "elsewhere")
    components = run_json("release-build", *build)["result"]["components"]
    assert [one["included"] for one in components] == [False, False]


def test_a_long_list_ends_on_the_screen(vendor: Vendor) -> None:
    vendor.application()
    outputs = []
    for number in range(22):
        vendor.build(f"1.{number}.0", f"d{number}")
        outputs.append(f"d{number}")
    vendor.must("release", "publish", *outputs)
    lines = run("release", "show", NAME).out.splitlines()
    assert lines[0] == f"{NAME}: 22 releases"
    assert lines[1].startswith("  1.21.0  ")
    assert lines[21:] == [
        "  and 2 more: --format json lists them",
        f"next: margo-supplychain release show {NAME} 1.21.0",
    ]
    document = run_json("release-show", "release", "show", NAME)
    assert len(document["result"]["releases"]) == 22


def test_what_margo_yaml_says_is_shown_where_it_differs(vendor: Vendor) -> None:
    vendor.init()
    vendor.must("app", "add", "acme/cooling-loop", "--release-key", "ci.pub")
    ran = run("app", "show", "acme/cooling-loop")
    assert "  releases  0 releases\n" in ran.out
    assert run("release", "show", "acme/cooling-loop").out == (
        "acme/cooling-loop: 0 releases\n"
    )
    vendor.package("cooling-loop")
    build = ("release", "build", "cooling-loop", "--output", "dist")
    version = run(*build).err.rpartition("--version ")[2].strip()
    assert run(*build, "--version", version).status == 0
    vendor.must("release", "publish", "dist")
    written = run_json(
        "release-show-one", "release", "show", "acme/cooling-loop", version
    )
    said = written["result"]["record"]["applicationVersion"]
    ran = run("release", "show", "acme/cooling-loop", version)
    assert said != version
    assert f"  margo.yaml  calls it {said}\n" in ran.out
