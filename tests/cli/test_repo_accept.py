"""`repo accept`: what the operator sees of what vendors hand in."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.running import Ran, run, run_json
from tests.cli.vendor import Vendor, files_below

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bolt/pump-monitor"
FLOOD = "0" * 64


class Operator(Vendor):
    """An operator in `place`, who has the vendor bolt; its keys lie in `place`/bolt."""

    def __init__(self, place: Path, secret: str, patch: pytest.MonkeyPatch) -> None:
        super().__init__(place, str(place / secret))
        self._patch = patch
        for name in ("root.key", "targets.key", "ci.key"):
            self.key(name)
        self.must(
            *("repo", "init", "trust", "--profile", "standard"),
            *("--root-key", "root.key", "--targets-key", "targets.key"),
            *("--publisher", "acme", "--publisher-key", "targets.key"),
            *("--online-key", "ci.key"),
        )
        self.inbox = place / "inbox"
        self.inbox.mkdir()
        self.bolt = Vendor(place / "bolt", self.secret)
        self.bolt.place.mkdir()
        for name in ("bolt/offline.key", "bolt/release.key"):
            self.key(name)
        self.must("publisher", "add", "bolt", "--publisher-key", "bolt/offline.pub")
        shutil.copy(place / "trust/metadata/1.root.json", self.bolt.place)
        (self.bolt.place / "margo-supplychain.toml").write_text(
            'repo = "../trust"\nroot = "1.root.json"\ninbox = "../inbox"\n'
            'publisher = "bolt"\npublisher-key = "offline.key"\n'
            'release-key = "release.key"\n'
        )

    def vendor(self, *arguments: str) -> Ran:
        """Run a command where the vendor works."""
        self._patch.chdir(self.bolt.place)
        ran = self.bolt.must(*arguments)
        self._patch.chdir(self.place)
        return ran

    def hand_in_application(self) -> None:
        """Let bolt hand in its application."""
        self.vendor(
            *("app", "add", NAME, "--release-key", "release.pub"),
            *("--submit", "../inbox", "--note", "our first"),
        )

    def hand_in(self, version: str) -> None:
        """Let bolt hand in a release."""
        self._patch.chdir(self.bolt.place)
        self.bolt.build(version, f"dist-{version}")
        self.vendor("release", "submit", f"dist-{version}")

    def try_as_vendor(self, *arguments: str) -> Ran:
        """Run a command where the vendor works; it may fail."""
        self._patch.chdir(self.bolt.place)
        ran = self.bolt.sign(*arguments)
        self._patch.chdir(self.place)
        return ran

    def vendor_status(self, *arguments: str) -> Ran:
        """Look at the repository where the vendor works."""
        self._patch.chdir(self.bolt.place)
        ran = run("repo", "status", *arguments)
        self._patch.chdir(self.place)
        return ran

    def build_as_vendor(self, version: str) -> None:
        """Build a release where the vendor works."""
        self._patch.chdir(self.bolt.place)
        self.bolt.build(version, f"dist-{version}")
        self._patch.chdir(self.place)

    def accept(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Accept; return the result of the JSON document."""
        document = self.sign_json("repo-accept", "repo", "accept", *arguments)
        assert document["exit"] == status
        result: dict[str, Any] = document["result"]
        return result


@pytest.fixture
def operator(place: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(place, secret, monkeypatch)


def test_what_is_good_is_published(operator: Operator) -> None:
    operator.hand_in_application()
    operator.hand_in("1.2.0")
    ran = operator.must("repo", "accept", "inbox")
    assert ran.out.startswith("accepted 2 of 2 submissions from inbox\n")
    assert "  bolt  bolt v1  our first\n" in ran.out
    assert f"    + application {NAME}: signed by " in ran.out
    assert f"    + policy of {NAME}: epoch 1, provenance none\n" in ran.out
    assert f"    + release {NAME} 1.2.0: sha256:" in ran.out
    assert "bolt.pump-monitor v1" in ran.out
    assert "copied, " in ran.out
    assert ran.out.endswith("next: margo-supplychain repo check\n")
    assert run("repo", "check").status == 0
    assert "1.2.0" in run("release", "show", NAME).out
    before = files_below(operator.place / "trust")
    ran = operator.must("repo", "accept", "inbox")
    assert ran.out == "accepted nothing: inbox holds nothing new\n"
    assert files_below(operator.place / "trust") == before


def test_what_is_refused_is_said_and_harms_nobody(operator: Operator) -> None:
    operator.hand_in_application()
    (operator.inbox / f"{FLOOD}.tar").write_bytes(b"rubbish")
    ran = operator.sign("repo", "accept", "inbox")
    assert ran.status == 5
    assert ran.out.startswith("accepted 1 of 2 submissions from inbox\n")
    assert f"refused {FLOOD[:12]}: " in ran.out
    assert "  it is no submission, or was cut or changed after it was" in ran.out
    assert "--only 000000000000 --discard-refused\n" in ran.out
    result = operator.accept("inbox", status=5)
    assert result["taken"] == []
    assert result["signed"] == {}
    (refused,) = result["refused"]
    assert (refused["name"], refused["publisher"]) == (FLOOD, None)
    assert refused["code"] == "malformed"
    assert not refused["undecided"]
    result = operator.accept(
        "inbox", "--only", FLOOD[:12], "--discard-refused", status=5
    )
    assert result["removed"] == [FLOOD]
    assert list(operator.inbox.iterdir()) == []


def test_what_is_thrown_away_is_said(operator: Operator) -> None:
    (operator.inbox / f"{FLOOD}.tar").write_bytes(b"rubbish")
    ran = operator.sign("repo", "accept", "inbox", "--discard-refused")
    assert ran.status == 5
    assert ran.out.endswith(
        f"removed from inbox: {FLOOD[:12]}\n"
        "next: tell whoever handed in what was refused\n"
    )


def test_a_look_before_taking_in(operator: Operator) -> None:
    """No key is asked for; what each of them changes is said, and nothing is done."""
    operator.hand_in_application()
    operator.hand_in("1.2.0")
    waiting = files_below(operator.inbox)
    before = files_below(operator.place / "trust")
    ran = run("repo", "accept", "inbox", "--dry-run")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("would accept 2 of 2 submissions from inbox\n")
    assert "    bolt v1, the first, expires " in ran.out
    assert f"      + application {NAME}: signed by " in ran.out
    assert f"      + release {NAME} 1.2.0: sha256:" in ran.out
    assert "    note   our first\n" in ran.out
    document = run_json("repo-accept", "repo", "accept", "inbox", "--dry-run")
    result = document["result"]
    # What comes in the meantime was looked at by nobody.
    only = "".join(f" --only {one['name'][:12]}" for one in result["taken"])
    assert ran.out.endswith(f"next: margo-supplychain repo accept inbox{only}\n")
    assert (result["dryRun"], result["signed"], result["removed"]) == (True, {}, [])
    assert files_below(operator.inbox) == waiting
    assert files_below(operator.place / "trust") == before
    (operator.inbox / f"{FLOOD}.tar").write_bytes(b"rubbish")
    ran = run("repo", "accept", "inbox", "--dry-run")
    assert ran.status == 5
    assert f"refused {FLOOD[:12]}: " in ran.out
    assert " --only " in ran.out.splitlines()[-1]
    ran = run("repo", "accept", "inbox", "--dry-run", "--discard-refused")
    assert ran.status == 2
    done = operator.accept("inbox", status=5)
    assert [one["sha256"] for one in done["taken"]] == [
        one["sha256"] for one in result["taken"]
    ]
    ran = run("repo", "accept", "inbox", "--dry-run")
    assert ran.out.startswith("would accept 0 of 1 submission from inbox\n")


def test_what_came_too_early_names_what_it_follows(operator: Operator) -> None:
    operator.hand_in_application()
    operator.accept("inbox")
    operator.hand_in("1.2.0")
    (first,) = operator.inbox.iterdir()
    operator.hand_in("1.3.0")
    (second,) = [one for one in operator.inbox.iterdir() if one != first]
    ran = operator.sign("repo", "accept", "inbox", "--only", second.stem[:12])
    assert ran.status == 5
    assert "skips versions" in ran.out
    assert (
        f"it follows {first.stem[:12]}, in the same inbox and not looked at: take them "
        f"together, --only {first.stem[:12]} --only {second.stem[:12]}\n"
    ) in ran.out


def test_whose_duty_it_is(operator: Operator) -> None:
    """The operator can't sign for a vendor, nor the vendor without handing in."""
    operator.hand_in_application()
    operator.accept("inbox")
    ran = run("repo", "status", "--within", "400d")
    assert ran.status == 5
    refresh = "margo-supplychain repo refresh --role"
    assert f": at bolt: {refresh} bolt --submit INBOX\n" in ran.out
    assert f": {refresh} acme\n" in ran.out
    assert "always due within 400 days, since they are signed for 365 days: " in ran.out
    ran = operator.vendor_status("--within", "400d")
    assert f": {refresh} bolt --submit ../inbox\n" in ran.out
    assert f": at the operator: {refresh} targets\n" in ran.out


def test_hints_say_what_applies(operator: Operator) -> None:
    """A vendor forgot --submit; an operator's setting names a key that is gone."""
    ran = operator.try_as_vendor("app", "add", NAME, "--release-key", "release.pub")
    assert ran.status == 5
    assert "the operator signs the rest: add --submit ../inbox; nothing" in ran.err
    operator.hand_in_application()
    operator.accept("inbox")
    ran = operator.try_as_vendor("repo", "refresh", "--role", "bolt")
    assert "hint: hand it in, the operator signs the rest: add --submit" in ran.err
    operator.build_as_vendor("1.2.0")
    ran = operator.try_as_vendor("release", "publish", "dist-1.2.0")
    assert "hint: the operator publishes: margo-supplychain release submit" in ran.err
    ran = operator.try_as_vendor(
        "release", "submit", "dist-1.2.0", "--key", "offline.key"
    )
    keyid = operator.key_id("bolt/offline.key")[:12]
    assert (
        f"hint: offline.key ({keyid}) is no key of bolt.pump-monitor; nothing"
        in ran.err
    )
    # The operator's online key is another one now.
    operator.key("online-2.key")
    operator.must(
        *(
            "root",
            "propose",
            "--replace-key",
            f"{operator.key_id('ci.key')}=online-2.pub",
        ),
        *("--out", "root-2.json"),
    )
    operator.must("root", "sign", "root-2.json", "--key", "root.key", "--yes")
    ran = operator.must(
        *("root", "finalize", "root-2.json", "--key", "online-2.key"),
        *("--key", "targets.key"),
    )
    old, new = (operator.key_id(one)[:12] for one in ("ci.key", "online-2.key"))
    assert (
        f"settings: online-key in margo-supplychain.toml is ci.key ({old}), no key of "
        f"snapshot and timestamp any more: set online-key to {new}\n"
    ) in ran.out
    ran = operator.sign("repo", "refresh")
    assert ran.status == 5
    assert (
        f"hint: online-key in margo-supplychain.toml is ci.key ({old}), no key of "
        f"snapshot and timestamp any more: set online-key to {new}; nothing was changed"
    ) in ran.err


def test_a_vendor_that_was_removed(operator: Operator) -> None:
    operator.must("publisher", "remove", "bolt", "--yes")
    ran = operator.try_as_vendor(
        *("app", "add", NAME, "--release-key", "release.pub", "--submit", "../inbox")
    )
    assert ran.status == 2
    assert "bolt is no longer a publisher here: it was removed" in ran.err


def test_json_and_the_setting(operator: Operator) -> None:
    operator.hand_in_application()
    settings = operator.place / "margo-supplychain.toml"
    settings.write_text(f'{settings.read_text()}inbox = "inbox"\n')
    result = operator.accept()
    (taken,) = result["taken"]
    assert taken["publisher"] == "bolt"
    assert taken["roles"] == [{"role": "bolt", "version": 1}]
    assert taken["note"] == "our first"
    assert set(result["signed"]) == {"bolt", "snapshot", "timestamp"}
    assert result["removed"] == [taken["name"]]
    assert (result["more"], result["refused"], result["known"]) == (False, [], [])


def test_only_one(operator: Operator) -> None:
    operator.hand_in_application()
    (path,) = operator.inbox.iterdir()
    ran = operator.sign("repo", "accept", "inbox", "--only", "abcdef01")
    assert ran.status == 2
    assert "no submission in inbox begins with 'abcdef01'" in ran.err
    ran = operator.sign("repo", "accept", "inbox", "--only", path.stem[:4])
    assert ran.status == 2
    assert f"'{path.stem[:4]}' are 4 digits of a submission's name" in ran.err
    assert f"hint: in inbox: {path.stem[:12]}\n" in ran.err
    result = operator.accept("inbox", "--only", path.stem[:8])
    assert len(result["taken"]) == 1


def test_no_inbox(operator: Operator) -> None:
    ran = operator.sign("repo", "accept")
    assert ran.status == 2
    assert "error: the argument INBOX is missing" in ran.err
    ran = operator.sign("repo", "accept", "nowhere")
    assert ran.status == 4
    assert "nowhere is no directory, and so no inbox" in ran.err
    ran = operator.sign("repo", "accept", "http://inbox.example")
    assert ran.status == 2


def test_a_vendors_key_is_not_enough(operator: Operator) -> None:
    operator.hand_in_application()
    before = files_below(operator.place / "trust")
    ran = operator.sign("repo", "accept", "inbox", "--key", "bolt/offline.key")
    assert ran.status == 5
    assert "snapshot needs 1 more" in ran.err
    assert files_below(operator.place / "trust") == before
    assert len(list(operator.inbox.iterdir())) == 1
