"""Links: what they say, what in-toto makes of them, and how they are kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from in_toto.models.layout import Layout
from in_toto.models.metadata import Envelope as InTotoEnvelope
from in_toto.models.metadata import Metadata
from in_toto.verifylib import in_toto_verify
from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.recording import steps
from margo_supplychain.authoring.recording.kept import keep
from margo_supplychain.authoring.recording.links import (
    Step,
    check_step,
    joined,
    link_of,
)
from margo_supplychain.authoring.recording.secrets import (
    check_command,
    is_secret,
    secret_values,
    variables,
    without_secrets,
)
from margo_supplychain.authoring.recording.steps import Wishes, attest, check_output
from margo_supplychain.errors import FormatError, StorageError
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.provenance.in_toto_models import PlannedStep, layout_payload
from margo_supplychain.signing.envelopes import sign_envelope
from tests.cli.attesting import python

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signer

EXPIRES = datetime(2100, 1, 1, tzinfo=UTC)


def said(payload: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(payload)
    return found


def plant(place: Path) -> None:
    (place / "src").mkdir()
    (place / "src" / "main.c").write_text("int main;\n")


# --- in-toto's own verification ------------------------------------------------------


def rules(*texts: str) -> list[list[str]]:
    return [one.split() for one in texts]


def layout_of(build: Signer, package: Signer) -> bytes:
    one, other = build.public_key, package.public_key
    return layout_payload(
        [
            PlannedStep(
                "build",
                [one.keyid],
                1,
                materials=rules("ALLOW src/*", "DISALLOW *"),
                products=rules("CREATE dist/*", "DISALLOW *"),
                command=python("pass"),
            ),
            PlannedStep(
                "package",
                [other.keyid],
                1,
                materials=rules("MATCH dist/* WITH PRODUCTS FROM build", "DISALLOW *"),
                products=rules("REQUIRE out/pack", "ALLOW out/*", "DISALLOW *"),
            ),
        ],
        keys={one.keyid: one, other.keyid: other},
        expires=EXPIRES,
    )


@pytest.mark.parametrize("scheme", ["ecdsa", "ed25519", "rsa"])
def test_in_toto_verifies_what_we_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    plant(tmp_path)
    monkeypatch.chdir(tmp_path)
    make = getattr(CryptoSigner, f"generate_{scheme}")
    owner, build, package = make(), make(), make()
    making = "import os; os.makedirs('{0}'); open('{0}/{1}', 'w').write('x')"
    steps_ = [
        (
            Step("build", base=tmp_path, materials=("src",), products=("dist",)),
            python(making.format("dist", "web")),
            build,
        ),
        (
            Step("package", base=tmp_path, materials=("dist",), products=("out",)),
            python(making.format("out", "pack")),
            package,
        ),
    ]
    for step, command, signer in steps_:
        made = attest(step, Wishes(command=tuple(command), keep_streams=True))
        keyid = signer.public_key.keyid
        # in-toto looks for exactly this name.
        file = tmp_path / f"{step.name}.{keyid[:8]}.link"
        assert keep(file, PAYLOAD, made.payload, signer, force=False)
    payload = layout_of(build, package)
    (tmp_path / "layout").write_bytes(sign_envelope(PAYLOAD, payload, [owner]))
    layout = Metadata.load(str(tmp_path / "layout"))  # type: ignore[no-untyped-call]  # in_toto
    assert isinstance(layout, InTotoEnvelope)
    assert isinstance(layout.get_payload(), Layout)
    key = owner.public_key
    in_toto_verify(  # type: ignore[no-untyped-call]  # in_toto has no annotations
        layout, {key.keyid: key.to_dict() | {"keyid": key.keyid}}
    )


# --- what a link says ----------------------------------------------------------------


def test_one_step_from_looking_to_payload(tmp_path: Path) -> None:
    plant(tmp_path)
    step = Step("test", base=tmp_path, materials=("src",))
    made = attest(step, Wishes())
    assert (made.materials, made.products, made.notes) == (1, 0, ())
    link = said(made.payload)
    assert (link["name"], link["command"], link["byproducts"]) == ("test", [], {})


def test_streams_that_are_cut_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path)
    monkeypatch.setattr("margo_supplychain.authoring.recording.run.MAX_STREAM", 3)
    step = Step("test", base=tmp_path, materials=("src",))
    command = tuple(python("print('123456', end='')"))
    made = attest(step, Wishes(command=command, keep_streams=True))
    assert said(made.payload)["byproducts"] == {
        "return-value": 0,
        "stdout": "123",
        "stdout-omitted-bytes": 3,
        "stderr": "",
    }


def test_links_that_devices_would_not_take(tmp_path: Path) -> None:
    step = Step("build", base=tmp_path)
    digest = {"sha256": "00" * 32}
    for name, message in (("../x", "no relative, normalised"), ("a//b", "normalised")):
        with pytest.raises(FormatError, match=f"the link of step build.*{message}"):
            link_of(step, materials={name: digest}, products={})
    with pytest.raises(FormatError, match="expected sha256, sha384 or sha512"):
        link_of(step, materials={"a": {"md5": "00"}}, products={})
    many = ["x" * 100] * 10_001
    with pytest.raises(FormatError, match="expected up to 10000 texts"):
        link_of(step, materials={"a": digest}, products={}, command=many)
    with pytest.raises(FormatError, match="neither materials nor products"):
        link_of(step, materials={}, products={})


def test_a_name_means_one_thing() -> None:
    with pytest.raises(FormatError, match="a file is named release/manifest, a name"):
        joined({"release/manifest": {}}, {"release/manifest": {}})
    assert joined({"a": {}}, {"b": {"sha256": "00"}}) == {
        "a": {},
        "b": {"sha256": "00"},
    }


@pytest.mark.parametrize(
    "name",
    [
        *("git/commit", "git/dirty", "release/manifest", "release/record"),
        "release/components/compose/web",
    ],
)
def test_files_with_fixed_names(tmp_path: Path, name: str) -> None:
    """A file could pass for the commit, or for the release."""
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("x")
    top = name.partition("/")[0]
    (tmp_path / top / "web").write_text("x")
    for step in (
        Step("x", base=tmp_path, materials=(top,)),
        Step("x", base=tmp_path, products=(top,)),
    ):
        with pytest.raises(FormatError, match=f"^{name} has a name by which links say"):
            attest(step, Wishes())
        assert attest(step._replace(exclude=(name,)), Wishes()).payload


@pytest.mark.parametrize("name", ["build", "a.b-C_9", "...", "x" * 100])
def test_names_of_steps(name: str) -> None:
    assert check_step(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "b\n", "x" * 101])
def test_names_that_no_step_has(name: str) -> None:
    with pytest.raises(FormatError, match="is no name, expected 1 to 100 of A-Z"):
        check_step(name)


def test_where_a_link_may_lie(tmp_path: Path) -> None:
    base = tmp_path / "work"
    (base / "dist").mkdir(parents=True)
    step = Step("build", base=base, materials=("src/",), products=("./dist",))
    check_output(step, base / "links" / "x.link.dsse.json")
    check_output(step, base / "distant")
    check_output(step, tmp_path / "dist" / "x")
    for file in (base / "dist" / "x", base / "dist" / "deep" / "x", base / "src" / "x"):
        with pytest.raises(FormatError, match="the link would be written into"):
            check_output(step, file)
    everything = step._replace(materials=(".",))
    with pytest.raises(FormatError, match=r"written into \., which it records: links"):
        check_output(everything, base / "links" / "x")
    check_output(everything._replace(exclude=("links",)), base / "links" / "x")


# --- secrets -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("CI_TOKEN", "password", "AWS_SECRET_ACCESS_KEY", "DB_PASSWD", "MY_PIN"),
        *("API_KEY", "MY_KEY", "GH_PAT", "DB_DSN", "KEY", "DB_PASS"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "HOME", "SPINE", "SSH_AUTH_SOCK", "KEYBOARD", "COMPASS"]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_secrets_in_a_command() -> None:
    secrets = secret_values({"CI_TOKEN": "12345678", "SHORT_TOKEN": "1", "A": "made"})
    check_command(["make", "TOKEN=1", "1234567"], secrets)
    with pytest.raises(FormatError, match="argument 1 of the command holds the value"):
        check_command(["make", "T=123456789"], secrets)


def test_addresses_with_passwords() -> None:
    plain = ["https://example.com:8080/x@y", "ssh://git@example.com", "a:b@c"]
    check_command([*plain, "https://ci:$TOKEN@example.com"], {})
    for text in ("https://ci:s3cr3t@example.com/x", "--db=postgres://:s3cr3t@db"):
        with pytest.raises(FormatError, match="argument 1 of the command holds an ad"):
            check_command(["make", text], {})
        assert without_secrets(text, {}) == text.replace("s3cr3t", "[password]")
    for text in plain:
        assert without_secrets(text, {}) == text
    without_secrets("://" * 100_000 + "a" * 1_000_000, {})


def test_secrets_in_a_text() -> None:
    secrets = secret_values({"A_TOKEN": "12345678", "B_TOKEN": "1234567890"})
    assert without_secrets("x1234567890y12345678", secrets) == "x[B_TOKEN]y[A_TOKEN]"


def test_variables() -> None:
    environment = {"A": "1", "B": "\udcff"}
    assert variables(["A", "A"], environment) == ["A=1"]
    with pytest.raises(FormatError, match="the value of a variable that is to be"):
        variables(["B"], environment)


def test_an_argument_that_is_no_text(tmp_path: Path) -> None:
    plant(tmp_path)
    step = Step("x", base=tmp_path, materials=("src",))
    command = (*python("pass"), "\udcff")
    with pytest.raises(FormatError, match="an argument of the command is not UTF-8"):
        attest(step, Wishes(command=command))
    assert attest(step, Wishes(command=command, keep_command=False)).materials == 1


def test_notes_are_few_and_printable(tmp_path: Path) -> None:
    differing = tuple(("M", f"file-{number}\x1b") for number in range(5))
    from margo_supplychain.authoring.recording.files import Recorded
    from margo_supplychain.authoring.recording.links import Materials

    found = Recorded({}, {}, missing=("a",))
    step = Step("x", base=tmp_path)
    dirty, missing = steps._notes(step, Materials({}, found, differing), found)
    assert "(M file-0\\x1b, M file-1\\x1b, M file-2\\x1b and 2 more)" in dirty
    assert dirty.endswith("(LFS, line ends) counts as changed")
    new = (("?", "file"),)
    dirty, _ = steps._notes(step, Materials({}, found, new), found)
    assert dirty.endswith(
        "(? file): a layout that does not allow git/dirty refuses this link"
    )
    assert missing == "1 files that git tracks are not there"


# --- kept as files -------------------------------------------------------------------


def test_what_is_kept_stays(tmp_path: Path) -> None:
    signer, other = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()
    file = tmp_path / "deep" / "x.json"
    assert keep(file, PAYLOAD, b"{}", signer, force=False)
    before = file.read_bytes()
    assert not keep(file, PAYLOAD, b"{}", signer, force=False)
    assert file.read_bytes() == before
    others = [
        (PAYLOAD, b"[]", signer),
        ("text/x", b"{}", signer),
        (PAYLOAD, b"{}", other),
    ]
    for kind, payload, key in others:
        with pytest.raises(FormatError, match="exists and says something else"):
            keep(file, kind, payload, key, force=False)
    assert file.read_bytes() == before
    assert keep(file, PAYLOAD, b"[]", signer, force=True)
    assert file.read_bytes() != before


def test_what_is_in_the_way(tmp_path: Path) -> None:
    signer = CryptoSigner.generate_ed25519()
    (tmp_path / "text").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("gone")
    for name in ("text", "directory", "link"):
        with pytest.raises(FormatError, match="exists and says something else"):
            keep(tmp_path / name, PAYLOAD, b"{}", signer, force=False)
    with pytest.raises(StorageError, match=r"can't make .*text"):
        keep(tmp_path / "text" / "x", PAYLOAD, b"{}", signer, force=False)
    assert (tmp_path / "text").read_text() == "x"
    assert not (tmp_path / "gone").exists()
    assert not [*tmp_path.glob(".tmp-*")]


def test_files_that_git_misses_are_counted(tmp_path: Path) -> None:
    from margo_supplychain.authoring.recording.files import Recorded
    from margo_supplychain.authoring.recording.links import byproducts_of

    step, nothing = Step("x", base=tmp_path), Recorded({}, {})
    some = nothing._replace(missing=("a", "b"), followed=("c",))
    assert byproducts_of(step, materials=some, products=nothing) == {
        "followed-symlinks": 1,
        "tracked-but-missing": 2,
    }
