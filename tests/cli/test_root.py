"""The root commands: proposed, signed by several people apart, adopted."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import plan_file
from margo_supplychain.cli import root_files, root_propose
from margo_supplychain.verify.limits import Limits
from tests.cli.ceremony import FIRST, adopted, prepared, short, sign, swap
from tests.cli.running import PASSPHRASE, Terminal, run, spawn, validate
from tests.cli.vendor import Vendor, date, files_below, move_clock

if TYPE_CHECKING:
    from margo_supplychain.authoring.proposals import RootProposal


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repository once; a test gets a copy."""
    return prepared(tmp_path_factory.mktemp("ceremony"))


@pytest.fixture
def vendor(place: Path, template: Path) -> Vendor:
    shutil.copytree(template, place, dirs_exist_ok=True)
    return Vendor(place, "passphrase")


def sha256(vendor: Vendor, file: str = "root-2.json") -> str:
    ran = run("--format", "json", "root", "status", file)
    found: str = ran.json["result"]["sha256"]
    return found


def expiry(version: int) -> str:
    """Return when the trusted root expires, or the one that is proposed."""
    file = "trust/metadata/1.root.json" if version == 1 else f"root-{version}.json"
    said = json.loads(Path(file).read_bytes())["signed"]["expires"]
    return datetime.fromisoformat(said).astimezone().strftime("%Y-%m-%d %H:%M")


# --- the screen ----------------------------------------------------------------------


def test_a_proposal_is_printed_as_the_operator_sees_it(vendor: Vendor) -> None:
    a, d = short(vendor, "a.key"), vendor.key_id("d.key")
    ran = swap(vendor)
    assert (ran.status, ran.err) == (0, "")
    trusted = hashlib.sha256(Path("trust/metadata/1.root.json").read_bytes())
    assert ran.out == (
        "proposed root v2: root-2.json\n"
        "root v1 -> v2\n"
        f"  proposal   sha256 {sha256(vendor)}\n"
        f"  trusted    root v1 sha256 {trusted.hexdigest()}\n"
        f"  root       - {a}  Ada  leaves: signs this change and nothing after it\n"
        f"             + {d}\n"
        "               Dan\n"
        "  threshold  2 of 3 (unchanged)\n"
        f"  expiry     {expiry(2)} (was {expiry(1)})\n"
        "  effect     devices on root v1 follow; nothing else must be signed again\n"
        "next: margo-supplychain root sign root-2.json --key …\n"
    )


def settings_note(vendor: Vendor) -> str:
    """What is said of the setting that still names a key that left."""
    left = vendor.key_id("a.key")[:12]
    document = run("--format", "json", "root", "show").json
    roles = {one["role"]: one["keyIds"] for one in document["result"]["roles"]}
    return (
        f"settings: root-key in margo-supplychain.toml is a.key ({left}), no key of "
        f"root any more: set root-key to {', '.join(one[:12] for one in roles['root'])}"
        "\n"
    )


def test_each_signature_says_who_must_sign_next(vendor: Vendor) -> None:
    shown = swap(vendor).out.splitlines()[1:-1]
    ran = sign(vendor, "a.key")
    assert ran.err.splitlines() == shown
    assert ran.status == 5
    assert ran.out == (
        "signed by Ada\n"
        "signed: old root 1 of 2, new root 0 of 2\n"
        "incomplete: old root needs 1 more of Ben, Cyd; new root needs 2 more of Dan, "
        "Ben, Cyd\n"
        "next: send root-2.json to Ben: margo-supplychain root sign root-2.json --key …"
        "\n"
    )
    ran = sign(vendor, "b.key")
    assert "signed: old root 2 of 2, new root 1 of 2\n" in ran.out
    assert "incomplete: new root needs 1 more of Dan, Cyd\n" in ran.out
    ran = sign(vendor, "c.key")
    assert ran.status == 0
    assert ran.out == (
        "signed by Cyd\n"
        "signed: old root 2 of 2, new root 2 of 2\n"
        "complete: root v2 has every signature it needs\n"
        "next: margo-supplychain root finalize root-2.json\n"
    )
    ran = vendor.must("root", "finalize", "root-2.json")
    assert ran.out == (
        "adopted root v2 in trust\n"
        "  signed again  nothing: all of it stands\n"
        "  checked       as a fresh device would, and as one with the state before\n"
        f"{settings_note(vendor)}"
        "next: margo-supplychain repo check\n"
    )
    assert run("repo", "check").status == 0


def test_signing_again_changes_nothing(vendor: Vendor) -> None:
    swap(vendor)
    sign(vendor, "a.key")
    before = Path("root-2.json").read_bytes()
    assert sign(vendor, "a.key").out.startswith("unchanged: signed before\n")
    assert Path("root-2.json").read_bytes() == before


def test_quiet_scripts_read_nothing(vendor: Vendor) -> None:
    swap(vendor)
    ran = vendor.sign("-q", "root", "sign", "root-2.json", "--key", "a.key", "--yes")
    assert ran.err == ""
    ran = vendor.sign("-q", "root", "sign", "root-2.json", "--key", "b.key")
    assert "root v1 -> v2\n" in ran.err


# --- confirmation --------------------------------------------------------------------


def test_a_person_is_asked_after_the_change_was_shown(vendor: Vendor) -> None:
    swap(vendor)
    terminal = Terminal(
        *("root", "sign", "root-2.json", "--key", "a.key"),
        cwd=vendor.place,
        NO_COLOR="1",
    )
    told = [("sign this? [y/N] ", "y\n"), ("passphrase", f"{PASSPHRASE}\n")]
    assert terminal.answer(told) == 5
    assert terminal.text.index("leaves: signs this") < terminal.text.index("sign this?")
    assert "signed by Ada" in terminal.text


@pytest.mark.parametrize("answer", ["n\n", "\n", "yup\n", "\x04"])
def test_anything_but_yes_signs_nothing(vendor: Vendor, answer: str) -> None:
    swap(vendor)
    before = Path("root-2.json").read_bytes()
    terminal = Terminal(
        "root", "sign", "root-2.json", "--key", "a.key", cwd=vendor.place
    )
    assert terminal.answer([("sign this? [y/N] ", answer)]) == 2
    assert "the answer was no" in terminal.text
    assert Path("root-2.json").read_bytes() == before


def test_nothing_is_asked_without_a_terminal(vendor: Vendor) -> None:
    swap(vendor)
    ran = spawn("root", "sign", "root-2.json", "--key", "a.key", cwd=vendor.place)
    assert ran.returncode == 2
    assert b"give --yes once somebody has looked" in ran.stderr


# --- apart ---------------------------------------------------------------------------


def test_signed_apart_and_merged(vendor: Vendor) -> None:
    swap(vendor)
    for name in ("b", "c"):
        ran = sign(vendor, f"{name}.key", "--out", f"{name}.json", "--root", FIRST)
        assert ran.status == 5
    assert not json.loads(Path("root-2.json").read_bytes())["signatures"]
    ran = run("root", "merge", "b.json", "c.json", "--out", "root-2.json")
    assert (ran.status, ran.out.splitlines()[0]) == (
        0,
        "merged 2 files into root-2.json",
    )
    vendor.must("root", "finalize", "root-2.json")


def test_merging_two_proposals_names_both(vendor: Vendor) -> None:
    swap(vendor)
    run("root", "propose", "--out", "other.json")
    ran = run("root", "merge", "root-2.json", "other.json", "--out", "merged.json")
    assert ran.status == 2
    for file in ("root-2.json", "other.json"):
        assert sha256(vendor, file) in ran.err
    assert not Path("merged.json").exists()


def test_without_a_repository_roots_on_a_stick_say_what_is_trusted(
    vendor: Vendor,
) -> None:
    adopted(vendor)
    run("root", "propose", "--out", "root-3.json")
    stick = vendor.place / "stick"
    stick.mkdir()
    for path in ("root-3.json", FIRST, "trust/metadata/2.root.json", "b.key", "b.pub"):
        shutil.copy(path, stick)
    shutil.rmtree("trust")
    Path("margo-supplychain.toml").unlink()
    at = [str(stick / f"{number}.root.json") for number in (1, 2)]
    file = str(stick / "root-3.json")
    ran = sign(vendor, str(stick / "b.key"), file=file)
    assert ran.status == 2
    assert "root v3 follows root v2, which is not given" in ran.err
    ran = sign(vendor, str(stick / "b.key"), "--root", at[0], file=file)
    assert ran.status == 2
    assert "devices go from one version to the next, expected root v2" in ran.err
    ran = sign(
        *(vendor, str(stick / "b.key"), "--root", at[0], "--root", at[1]), file=file
    )
    assert ran.status == 5
    ran = sign(
        *(vendor, str(stick / "b.key"), "--root", at[1], "--root", at[0]), file=file
    )
    assert ran.status == 2
    assert "error: root v1 is given after root v2, expected root v3" in ran.err


def test_the_status_of_a_proposal(vendor: Vendor) -> None:
    swap(vendor)
    sign(vendor, "b.key")
    ran = run("root", "status", "root-2.json")
    a, b, c, d = (short(vendor, f"{name}.key") for name in "abcd")
    assert ran.status == 5
    assert ran.out.splitlines()[2].startswith("  trusted   root v1 sha256 ")
    assert ran.out.splitlines()[3:7] == [
        f"  old root  1 of 2  signed   {b} (Ben)",
        f"                    not yet  {c} (Cyd), {a} (Ada, leaves)",
        f"  new root  1 of 2  signed   {b} (Ben)",
        f"                    not yet  {d} (Dan), {c} (Cyd)",
    ]
    ran = run("root", "show", "root-2.json")
    assert ran.status == 0
    assert ran.out.startswith("root v1 -> v2\n  proposal   sha256 ")


def test_two_sign_the_same_file_at_once(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Ada types her passphrase, Ben's signature comes into the shared file."""
    swap(vendor)
    read = root_files.Trust.read

    def meanwhile(trust: root_files.Trust, path: Path) -> RootProposal:
        found = read(trust, path)
        monkeypatch.setattr(root_files.Trust, "read", read)
        assert sign(vendor, "b.key").status == 5
        return found

    monkeypatch.setattr(root_files.Trust, "read", meanwhile)
    ran = sign(vendor, "a.key")
    assert ran.out.startswith(
        "signed by Ada\nsigned: old root 2 of 2, new root 1 of 2\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        ("sign", "root-2.json", "--key", "a.key", "--yes", "--out", "b.key"),
        ("sign", "root-2.json", "--export-payload", "b.key"),
        ("merge", "root-2.json", "--out", "b.key"),
    ],
)
def test_no_other_file_is_written_over(
    vendor: Vendor, options: tuple[str, ...]
) -> None:
    swap(vendor)
    before = files_below(vendor.place)
    secret = () if "--key" not in options else ("--passphrase-file", "passphrase")
    ran = run("root", *options, *secret)
    assert ran.status == 2
    assert "error: b.key exists, and is another file" in ran.err
    assert files_below(vendor.place) == before


def test_no_other_proposal_is_written_over(vendor: Vendor) -> None:
    swap(vendor)
    run("root", "propose", "--out", "other.json")
    ran = sign(vendor, "a.key", "--out", "other.json")
    assert ran.status == 2
    assert "these are two proposals" in ran.err


# --- keys that can't be reached ------------------------------------------------------


def test_a_signature_that_was_made_elsewhere(vendor: Vendor) -> None:
    swap(vendor)
    ran = run("root", "sign", "root-2.json", "--export-payload", "payload")
    assert ran.status == 0
    payload = Path("payload").read_bytes()
    assert hashlib.sha256(payload).hexdigest() == sha256(vendor)
    subprocess.run(
        [
            *("openssl", "pkeyutl", "-sign", "-rawin", "-in", "payload"),
            *("-inkey", "b.key", "-passin", "file:passphrase", "-out", "b.sig"),
        ],
        check=True,
    )
    add = ("root", "sign", "root-2.json", "--import-signature", "b.sig")
    ran = run(*add, "--key", "c.pub")
    assert ran.status == 2
    assert f"the signature of key {short(vendor, 'c.key')} does not verify" in ran.err
    ran = run(*add, "--key", "b.pub")
    assert (ran.status, ran.out.splitlines()[0]) == (5, "added: a signature of Ben")
    ran = run(*add, "--key-id", short(vendor, "b.key"))
    assert ran.out.startswith("unchanged: signed before\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--key-id", "0" * 12), "--key-id says whose --import-signature is"),
        (("--import-signature", "x"), "needs --key-id or one --key"),
        (
            ("--import-signature", "x", "--key", "b.pub", "--key-id", "0" * 12),
            "needs --key-id or one --key",
        ),
        (("--export-payload", "x", "--key", "b.pub"), "--export-payload signs nothing"),
        (("--import-signature", "x", "--key-id", "0" * 12), "x: no such file"),
        (
            ("--import-signature", "b.pub", "--key-id", "0" * 12),
            "no root key's id begins",
        ),
        (("--import-signature", "b.pub", "--key-id", "0"), "too short for a"),
        (("--import-signature", "b.pub", "--key", "ci.pub"), "is no root key of"),
        (("--import-signature", "b.pub", "--key", "b.pub"), "does not verify"),
    ],
)
def test_what_is_no_signature(
    vendor: Vendor, options: tuple[str, ...], message: str
) -> None:
    swap(vendor)
    before = Path("root-2.json").read_bytes()
    ran = run("root", "sign", "root-2.json", *options)
    assert ran.status == 2
    assert message in ran.err
    assert Path("root-2.json").read_bytes() == before


# --- what is proposed ----------------------------------------------------------------


def test_a_first_root_from_a_plan(vendor: Vendor) -> None:
    shutil.rmtree("trust")
    Path("margo-supplychain.toml").unlink()
    Path("plan.toml").write_text(
        'profile = "standard"\n'
        '[root]\nkeys = ["a.pub", "b.pub"]\nthreshold = 2\n'
        '[targets]\nkeys = ["targets.pub"]\n'
        '[snapshot]\nkeys = ["ci.pub"]\n[timestamp]\nkeys = ["ci.pub"]\n'
        '[owners]\n"a.pub" = "Ada"\n'
    )
    ran = run("root", "propose", "--plan", "plan.toml")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("proposed root v1: root-1.json\nroot v1, the first\n")
    assert "devices trust it by the sha256 that `repo init` prints, which" in ran.out
    assert sign(vendor, "a.key", file="root-1.json").status == 5
    ran = sign(vendor, "b.key", file="root-1.json")
    assert (ran.status, ran.out.splitlines()[1]) == (0, "signed: root 2 of 2")
    assert (
        "next: send root-1.json to whoever proposed it: margo-supplychain repo init DIR"
        " --signed-root root-1.json" in ran.out
    )
    ran = run("root", "finalize", "root-1.json")
    assert ran.status == 2
    assert "of a first root one is made: repo init DIR --signed-root root-1" in ran.err


def test_a_plan_is_printed_changed_and_proposed(vendor: Vendor) -> None:
    plan = run("root", "show", "--as-plan").out
    Path("plan.toml").write_text(plan.replace("threshold = 2", "threshold = 3"))
    ran = run("root", "propose", "--plan", "plan.toml")
    assert ran.status == 0, ran.err
    assert "  threshold  3 of 3 (was 2 of 3)\n" in ran.out
    assert "no spare: without one of its 3 keys nobody" in ran.out


def test_every_option_of_a_change(vendor: Vendor) -> None:
    ran = run(
        *("root", "propose", "--add-key", "targets=d.key", "--threshold", "targets=2"),
        *("--remove-key", f"root={short(vendor, 'c.key')}", "--period", "root=100d"),
        *("--signing", "root=30d", "--owner", f"{vendor.key_id('ci.key')}=robot"),
        *("--owner", "d.key=Dan"),
    )
    assert ran.status == 0, ran.err
    for text in (
        f"- {short(vendor, 'c.key')}  Cyd  leaves",
        f"+ {vendor.key_id('d.key')}\n",
        " Dan, file\n",
        "threshold  2 of 2 (was 2 of 3)",
        "threshold  targets 2 of 2 (was 1 of 1)",
        "(was " + expiry(1) + ": earlier)",
        "period     root 100d (was not said)",
        "signing    root 30d (was not said)",
        f"holder     {short(vendor, 'ci.key')} robot (was not said)",
        "signed again with it: targets",
    ):
        assert text in ran.out, text
    data = json.loads(Path("root-2.json").read_bytes())["signed"]
    assert data["x-periods"] == {"root": "100d"}
    assert data["x-signing"] == {"root": "30d"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--replace-key", "x"), "--replace-key 'x' is not OLD=KEY"),
        (("--replace-key", "zz=d.pub"), "'zz' is no key id of root"),
        (("--replace-key", "0" * 12 + "=d.pub"), "has a key 000000000000"),
        (("--add-key", "acme=d.pub"), "'acme' is no role of root"),
        (("--add-key", "root=a.pub"), "root has key"),
        (("--add-key", "root=ci.pub"), "is also an online key"),
        (("--add-key", "root=none.pub"), "none.pub"),
        (("--threshold", "root=4"), "root would need 4 of 3 keys"),
        (("--threshold", "root=0"), "root would need 0 of 3 keys"),
        (("--threshold", "root=two"), "--threshold root='two' is no number"),
        (("--period", "root=1h1"), "--period root is '1h1'"),
        (("--period", "root=10s"), "the periods of root is 0:00:10"),
        (("--signing", "king=1d"), "signing of 'king'"),
        (("--owner", "Ada"), "--owner 'Ada' is not KEY=NAME"),
        (("--owner", "e.pub=Eve"), "e.pub: no such file, expected a key"),
        (("--owner", "acme.pub=Eve"), "none of root, targets, snapshot, timestamp has"),
        (("--signing", "root=730d"), "due 730d before the expiry, and its signatures"),
        (("--custody", "root=never-extractable"), "recorded without custody"),
        (("--custody", "root=deep"), "custody of 'root' is 'deep'"),
        (("--plan", "p.toml", "--threshold", "root=1"), "--plan says everything"),
        (("--plan", "p.toml"), "p.toml: no such file, expected a plan"),
        (("--out", "a.pub"), "a.pub exists, and is another file"),
    ],
)
def test_what_can_not_be_proposed(
    vendor: Vendor, options: tuple[str, ...], message: str
) -> None:
    before = files_below(vendor.place)
    ran = run("root", "propose", *options)
    assert ran.status == 2
    assert message in ran.err
    assert files_below(vendor.place) == before


def test_a_first_root_needs_a_plan(place: Path) -> None:
    ran = run("root", "propose", "--threshold", "root=1")
    assert ran.status == 2
    assert "a first root needs --plan" in ran.err


def test_a_key_that_left_never_returns(vendor: Vendor) -> None:
    adopted(vendor)
    ran = run("root", "propose", "--add-key", "root=a.pub")
    assert ran.status == 2
    assert f"key {short(vendor, 'a.key')} left the role root after root v1" in ran.err


# --- what is refused -----------------------------------------------------------------


def test_a_swapped_proposal_is_noticed(vendor: Vendor) -> None:
    swap(vendor)
    sign(vendor, "a.key")
    value = json.loads(Path("root-2.json").read_bytes())
    value["signed"]["roles"]["root"]["threshold"] = 1
    Path("root-2.json").write_text(json.dumps(value))
    before = Path("root-2.json").read_bytes()
    ran = sign(vendor, "b.key")
    assert ran.status == 2
    assert "does not verify: it was changed, or made for another proposal" in ran.err
    assert Path("root-2.json").read_bytes() == before


def test_a_key_of_nobody_here_signs_nothing(vendor: Vendor) -> None:
    swap(vendor)
    ran = sign(vendor, "acme.key")
    assert ran.status == 2
    assert "is no root key of root v1 or root v2" in ran.err


def test_a_proposal_that_waited_too_long(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap(vendor, "--period", "root=30d")
    move_clock(monkeypatch, 31)
    ran = sign(vendor, "a.key")
    assert ran.status == 2
    assert "which is in the past" in ran.err


def test_an_incomplete_root_is_not_adopted(vendor: Vendor) -> None:
    swap(vendor)
    sign(vendor, "a.key")
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("root", "finalize", "root-2.json")
    assert ran.status == 5
    assert (
        "error: old root needs 1 more of Ben, Cyd; new root needs 2 more of" in ran.err
    )
    assert "hint: send root-2.json to Ben: margo-supplychain root sign" in ran.err
    assert files_below(vendor.place / "trust") == before


def test_adopting_twice_is_fine(vendor: Vendor) -> None:
    adopted(vendor)
    before = files_below(vendor.place / "trust")
    ran = vendor.must("root", "finalize", "root-2.json")
    assert ran.out == (
        "unchanged: root v2 is adopted in trust\n"
        f"{settings_note(vendor)}"
        "next: margo-supplychain repo check\n"
    )
    assert files_below(vendor.place / "trust") == before


@pytest.mark.parametrize("command", ["sign", "status", "show", "finalize", "rehearse"])
def test_files_that_are_no_proposal(vendor: Vendor, command: str) -> None:
    Path("bad.json").write_bytes(b"{}")
    Path("big.json").write_bytes(b" " * 600_000)
    Path("cut.json").write_bytes(Path(FIRST).read_bytes()[:100])
    for file, message in (
        ("bad.json", 'bad.json: root has no "signed" object'),
        ("cut.json", "ask whoever sent it for it again"),
        ("big.json", "more than 512000 bytes"),
        ("none.json", "no such file, expected a root proposal"),
    ):
        ran = run("root", command, file)
        assert ran.status == 2
        assert message in ran.err


def test_an_invalid_trusted_root(vendor: Vendor) -> None:
    swap(vendor)
    value: dict[str, Any] = json.loads(Path(FIRST).read_bytes())
    value["signed"]["x-note"] = "changed"
    Path("false.json").write_text(json.dumps(value))
    ran = sign(vendor, "a.key", "--root", "false.json")
    assert ran.status == 3
    assert "hint: --root takes the root that you trust" in ran.err


def test_no_key_is_opened_where_nothing_is_signed(vendor: Vendor) -> None:
    run("root", "propose")
    for name in ("a.key", "b.key"):
        sign(vendor, name)
    assert run("root", "finalize", "root-2.json").status == 0
    assert run("repo", "check").status == 0


def test_online_keys_are_replaced_in_one_command(vendor: Vendor) -> None:
    ran = run(
        *("root", "propose", "--replace-key", f"{short(vendor, 'ci.key')}=d.pub"),
        *("--replace-key", f"{short(vendor, 'targets.key')}=acme.key"),
    )
    assert "signed again with it: targets, snapshot, timestamp" in ran.out
    for name in ("a.key", "b.key"):
        sign(vendor, name)
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("root", "finalize", "root-2.json")
    assert ran.status == 5
    assert files_below(vendor.place / "trust") == before
    keys = [("--key", name) for name in ("ci.key", "targets.key", "d.key", "acme.key")]
    given = [word for one in keys for word in one]
    ran = vendor.must("root", "finalize", "root-2.json", *given)
    again = ran.out.splitlines()[1]
    assert again.split(maxsplit=2)[2].startswith("targets v")
    assert run("repo", "check").status == 0


def test_the_publisher_of_a_small_repository_keeps_its_key(
    place: Path, secret: str
) -> None:
    vendor = Vendor(place, secret)
    vendor.init()
    vendor.key("new.key")
    offline = vendor.key_id("offline.key")[:12]
    ran = run("root", "propose", "--replace-key", f"{offline}=new.pub")
    assert ran.status == 0
    assert (
        f"note: key {offline} stays the publisher's: margo-supplychain pub" in ran.err
    )
    sign(vendor, "offline.key")
    sign(vendor, "new.key")
    vendor.must(
        *("root", "finalize", "root-2.json", "--key", "offline.key"),
        *("--key", "new.key", "--key", "ci.key"),
    )
    assert run("repo", "check").status == 0


# --- rehearsal -----------------------------------------------------------------------


def test_a_ceremony_is_rehearsed_on_a_copy(vendor: Vendor) -> None:
    swap(vendor)
    before = files_below(vendor.place)
    ran = run("root", "rehearse", "root-2.json")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "rehearsed root v2 on a copy of trust"
    # Ada leaves, and may be out of reach: it is played without her.
    assert [line.split(":")[0] for line in lines if " signs" in line] == [
        "  Ben signs",
        "  Cyd signs",
    ]
    assert "  a device with the state before follows" in lines
    assert lines[-1] == "next: margo-supplychain root sign root-2.json --key …"
    assert files_below(vendor.place) == before
    document = run("--format", "json", "root", "rehearse", "root-2.json").json
    validate(document, "root-rehearse")
    assert document["result"]["leavingKeysNeeded"] == 0


# --- show, JSON ----------------------------------------------------------------------


def test_show_says_who_must_act(vendor: Vendor) -> None:
    ran = run("root", "show")
    a, ci = short(vendor, "a.key"), short(vendor, "ci.key")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "root v1"
    assert lines[3] == f"  root       2 of 3  {date(730)}  2 of Ada, Ben, Cyd"
    assert f"  {a}  root                 Ada" in lines
    assert f"  {ci}  snapshot, timestamp" in lines
    alone = run("root", "show", "--root", FIRST)
    assert alone.out.splitlines()[0] == "root v1"
    assert run("root", "show", "root-9.json", "--as-plan").status == 2


def test_show_a_root_below_which_nothing_verifies(vendor: Vendor) -> None:
    Path("trust/metadata/timestamp.json").write_bytes(b"{}")
    ran = run("root", "show")
    assert ran.status == 0
    assert ran.err.startswith("note: trust does not verify below its root: ")
    assert "2 of 3" in ran.out


def test_show_needs_something_to_show(place: Path) -> None:
    ran = run("root", "show")
    assert ran.status == 2
    assert "or name a root with --root" in ran.err


def test_json(vendor: Vendor) -> None:
    a, b = vendor.key_id("a.key"), vendor.key_id("b.key")
    document = run(
        *("--format", "json", "root", "propose", "--replace-key", f"{a}=d.pub"),
        *("--out", "root-2.json"),
    ).json
    validate(document, "root-proposal")
    assert document["result"]["difference"]["keys"][0]["change"] == "leaves"
    for name in ("a.key", "b.key", "d.key"):
        document = vendor.sign_json(
            "root-proposal", "root", "sign", "root-2.json", "--key", name, "--yes"
        )
        assert document["result"]["addedKeyIds"] == [vendor.key_id(name)]
    assert document["result"]["complete"]
    for arguments, schema in (
        (("show", "root-2.json"), "root-proposal"),
        (("status", "root-2.json"), "root-proposal"),
        (("merge", "root-2.json", "--out", "x.json"), "root-proposal"),
        (("sign", "root-2.json", "--export-payload", "x.bin"), "root-proposal"),
        (("show",), "root-show"),
        (("show", "--as-plan"), "root-plan"),
    ):
        validate(run("--format", "json", "root", *arguments).json, schema)
    document = vendor.sign_json("root-finalize", "root", "finalize", "root-2.json")
    assert document["result"]["version"] == 2
    assert b in Path("root-2.json").read_text()


def test_limits_are_those_of_the_parsers() -> None:
    assert Limits().root == root_files.ROOT_LIMIT
    assert plan_file.LIMIT == root_propose.PLAN_LIMIT
