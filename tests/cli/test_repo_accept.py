"""`repo accept`: what the operator sees of what vendors hand in."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.running import Ran, run
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
    assert "bolt  no new release" in ran.out
    assert "our first" in ran.out
    assert f"{NAME} 1.2.0" in ran.out
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
    assert "0 submissions in inbox begin with 'abcdef01'" in ran.err
    ran = operator.sign("repo", "accept", "inbox", "--only", path.stem[:4])
    assert ran.status == 2
    assert "name one by 8 digits" in ran.err
    result = operator.accept("inbox", "--only", path.stem[:8])
    assert len(result["taken"]) == 1


def test_no_inbox(operator: Operator) -> None:
    ran = operator.sign("repo", "accept")
    assert ran.status == 2
    assert "INBOX" in ran.err
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
