"""`release submit` and `--submit`: a vendor without any of the operator's keys."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import Ran, run, run_json
from tests.cli.vendor import Vendor, files_below
from tests.peers.clients import serve

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bolt/pump-monitor"


class Market:
    """An operator in `place`, and the vendor bolt in `place`/bolt."""

    def __init__(self, place: Path, secret: str, patch: pytest.MonkeyPatch) -> None:
        self.operator = Vendor(place, secret)
        self.bolt = Vendor(place / "bolt", str(place / secret))
        self._patch = patch
        for name in ("root.key", "targets.key", "acme.key", "ci.key"):
            self.operator.key(name)
        self.operator.must(
            *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
            *("--root-key", "root.key", "--targets-key", "targets.key"),
            *("--publisher-key", "acme.key", "--online-key", "ci.key"),
        )
        (place / "inbox").mkdir()
        self.bolt.place.mkdir()
        self.at_bolt()
        for name in ("offline.key", "release.key", "second.key"):
            self.bolt.key(name)
        shutil.copy(place / "trust/metadata/1.root.json", self.bolt.place)
        (self.bolt.place / "margo-supplychain.toml").write_text(
            'repo = "../trust"\nroot = "1.root.json"\ninbox = "../inbox"\n'
            'publisher = "bolt"\npublisher-key = "offline.key"\n'
            'release-key = "release.key"\n'
        )

    def at_operator(self) -> None:
        """Work where the operator works."""
        self._patch.chdir(self.operator.place)

    def at_bolt(self) -> None:
        """Work where the vendor works."""
        self._patch.chdir(self.bolt.place)

    def at(self, place: Path) -> None:
        """Work somewhere else."""
        self._patch.chdir(place)

    def add_bolt(self, *more: str) -> None:
        """Let the operator delegate to bolt, by public keys alone."""
        self.at_operator()
        self.operator.must(
            *("publisher", "add", "bolt", "--publisher-key", "bolt/offline.pub", *more)
        )
        self.at_bolt()

    def accept(self) -> Ran:
        """Let the operator take in what waits."""
        self.at_operator()
        ran = self.operator.must("repo", "accept", "inbox")
        assert run("repo", "check").status == 0
        self.at_bolt()
        return ran

    def waiting(self) -> list[str]:
        """Return the files in the inbox."""
        inbox = self.operator.place / "inbox"
        return sorted(one.name for one in inbox.iterdir())

    def add_application(self, *more: str) -> Ran:
        """Hand in the vendor's application."""
        return self.bolt.sign(
            *("app", "add", NAME, "--release-key", "release.pub"),
            *("--submit", "../inbox", *more),
        )


@pytest.fixture
def market(place: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> Market:
    return Market(place, secret, monkeypatch)


def test_vendor_hands_in_and_the_operator_publishes(market: Market) -> None:
    market.add_bolt()
    before = files_below(market.operator.place / "trust")
    ran = market.add_application("--note", "our first")
    assert ran.status == 0, ran.err
    assert f"added {NAME}" in ran.out
    (first,) = market.waiting()
    assert f" bolt v1; handed in as {first[:12]} to ../inbox\n" in ran.out
    market.bolt.build("1.2.0")
    ran = market.bolt.must("release", "submit", "dist")
    assert f"handed in {NAME} 1.2.0\n" in ran.out
    assert f"built on {first[:12]}, which the operator has not taken yet" in ran.err
    assert "next: the operator takes it in: margo-supplychain repo accept" in ran.out
    assert len(market.waiting()) == 2
    (second,) = set(market.waiting()) - {first}
    ran = market.bolt.must("release", "submit", "dist")
    waits = f"unchanged: {NAME} 1.2.0 waits in the inbox as {second[:12]}\n"
    assert ran.out.startswith(waits)
    assert ran.out.endswith("nothing was handed in\n")
    assert len(market.waiting()) == 2
    assert files_below(market.operator.place / "trust") == before
    market.accept()
    assert market.waiting() == []
    ran = run("release", "show", NAME)
    assert "1.2.0" in ran.out
    ran = market.bolt.must("release", "submit", "dist")
    assert ran.out.startswith(f"unchanged: {NAME} 1.2.0 is published\n")
    assert ran.out.endswith("nothing was handed in\n")
    ran = market.bolt.must(
        *("release", "withdraw", NAME, "1.2.0", "--reason", "leaks"),
        *("--submit", "../inbox"),
    )
    assert f"withdrew {NAME} 1.2.0" in ran.out
    market.bolt.must("repo", "refresh", "--role", "bolt", "--submit", "../inbox")
    market.accept()
    assert "withdrawn" in run("release", "show", NAME).out


def test_documents(market: Market) -> None:
    market.add_bolt()
    document = market.bolt.sign_json(
        "app",
        *("app", "add", NAME, "--release-key", "release.pub"),
        *("--submit", "../inbox"),
    )
    (first,) = market.waiting()
    name = first.removesuffix(".tar")
    assert document["result"]["submission"] == {
        "name": name,
        "inbox": "../inbox",
        "file": None,
        "after": [],
        "blobs": 0,
        "lacking": [],
    }
    market.bolt.build("1.2.0")
    document = market.bolt.sign_json("release-submit", "release", "submit", "dist")
    assert document["result"]["submission"]["after"] == [name]
    assert document["result"]["releases"][0]["role"] == "bolt.pump-monitor"
    market.accept()
    document = market.bolt.sign_json("release-submit", "release", "submit", "dist")
    assert document["result"]["submission"] is None
    document = market.bolt.sign_json(
        "release-withdraw",
        *("release", "withdraw", NAME, "1.2.0", "--reason", "leaks"),
        *("--submit", "../inbox"),
    )
    assert document["result"]["submission"]["inbox"] == "../inbox"
    market.bolt.sign_json(
        "repo-refresh",
        *("repo", "refresh", "--role", "bolt", "--submit", "../inbox"),
    )


def test_holders_apart(market: Market) -> None:
    market.add_bolt("--publisher-key", "bolt/second.pub", "--publisher-threshold", "2")
    ran = market.add_application()
    assert ran.status == 5
    assert "bolt has 1 of 2 signatures" in ran.err
    assert "--out FILE" in ran.err
    ran = market.add_application("--out", "bolt.tar")
    assert (ran.status, ran.err) == (5, "")
    assert "bolt v1; written to bolt.tar\n" in ran.out
    *_, incomplete, follow = ran.out.splitlines()
    assert incomplete.startswith("incomplete: bolt has 1 of 2 signatures (missing: ")
    assert follow == (
        "next: send bolt.tar to the holders of those keys: margo-supplychain root sign "
        "bolt.tar --key …; then margo-supplychain release submit bolt.tar"
    )
    assert market.waiting() == []
    ran = market.bolt.sign("release", "submit", "bolt.tar")
    assert ran.status == 5
    assert market.add_application("--out", "bolt.tar").status == 2  # it is there
    market.bolt.must("root", "sign", "bolt.tar", "--key", "second.key", "--yes")
    ran = market.bolt.must("release", "submit", "bolt.tar")
    assert ran.out.startswith("handed in bolt v1, as bolt.tar has it\n")
    document = market.bolt.sign_json("release-submit", "release", "submit", "bolt.tar")
    assert document["result"]["signed"]["bolt"]["version"] == 1
    assert document["result"]["submission"]["after"] == []
    assert document["result"]["warnings"] == []
    ran = market.bolt.sign("release", "submit", "bolt.tar", "dist")
    assert ran.status == 2
    assert "is a submission, and handed in alone" in ran.err
    market.accept()


def test_release_that_lacks_signatures_is_sent_on(market: Market) -> None:
    market.add_bolt()
    market.bolt.must(
        *("app", "add", NAME, "--release-key", "release.pub"),
        *("--release-key", "second.pub", "--release-threshold", "2"),
        *("--submit", "../inbox"),
    )
    market.bolt.build("1.2.0")
    early = ("release", "submit", "dist", "--out", "early.tar")
    assert market.bolt.sign(*early).status == 5
    ran = market.bolt.sign("root", "sign", "early.tar", "--key", "second.key", "--yes")
    assert ran.status == 2
    assert "nobody can say yet whose keys sign bolt.pump-monitor" in ran.err
    market.accept()
    document = market.bolt.sign_json(
        "release-submit", "release", "submit", "dist", "--out", "1.2.0.tar"
    )
    assert (document["ok"], document["exit"]) == (False, 5)
    submission = document["result"]["submission"]
    assert submission["file"] == "1.2.0.tar"
    assert len(submission["lacking"]) == 1
    market.bolt.must("root", "sign", "1.2.0.tar", "--key", "second.key", "--yes")
    market.bolt.must("release", "submit", "1.2.0.tar")
    market.accept()


def test_what_was_never_built(market: Market) -> None:
    ran = market.bolt.sign("release", "submit", "nodist")
    assert ran.status == 2
    assert "nodist: no such file or directory, expected what `release build`" in ran.err
    market.bolt.build("1.2.0")
    ran = run("release", "build", "pump-monitor", "--output", "again")
    assert ran.out.endswith("next: margo-supplychain release submit again\n")


def test_what_to_believe_must_be_named(market: Market) -> None:
    market.add_bolt()
    settings = market.bolt.place / "margo-supplychain.toml"
    settings.write_text(settings.read_text().replace('root = "1.root.json"\n', ""))
    ran = market.add_application()
    assert ran.status == 2
    assert "can't be believed by itself" in ran.err
    assert "--root FILE" in ran.err


def test_inbox_that_is_not_there(market: Market) -> None:
    market.add_bolt()
    ran = market.bolt.sign(
        *("app", "add", NAME, "--release-key", "release.pub", "--submit", "nowhere")
    )
    assert ran.status == 4
    assert "nowhere is no directory, and so no inbox" in ran.err


def test_vendor_without_a_role_to_renew(market: Market) -> None:
    ran = market.bolt.sign("repo", "refresh", "--submit", "../inbox")
    assert ran.status == 2
    assert "a vendor signs with keys of his own" in ran.err
    ran = market.bolt.sign("repo", "refresh", "--note", "x")
    assert ran.status == 2
    assert "--note goes with --submit or --out" in ran.err


def test_json_is_valid_on_failure(market: Market) -> None:
    document = run_json("error", "release", "submit", "nothing-here")
    assert document["error"]["exit"] == 2


def test_operator_behind_a_web_server(market: Market) -> None:
    """It is read as devices read it, and remembered."""
    market.add_bolt()
    with serve(market.operator.place / "trust") as url:
        begin = ("repo", "check", "--repo", url, "--begin-from", "1.root.json")
        document = run_json("repo-check", *begin, "--state", "memory")
        (step,) = document["result"]["report"]["steps"]
        assert step["facts"]["snapshot"] == 3
        ran = run("repo", "check", url)
        assert ran.status == 2
        assert "which can't be looked through" in ran.err
        settings = market.bolt.place / "margo-supplychain.toml"
        text = settings.read_text().replace('repo = "../trust"', f'repo = "{url}"')
        text = text.replace('root = "1.root.json"', 'state = "memory"')
        settings.write_text(text)
        assert market.add_application().status == 0
        market.bolt.build("1.2.0")
        ran = market.bolt.must("release", "submit", "dist")
        assert f"  for      {url}\n" in ran.out
        market.accept()
        assert "unchanged" in market.bolt.must("release", "submit", "dist").out
        # The web server falls back behind what the memory has seen.
        (newest,) = (market.operator.place / "trust/metadata").glob("3.snapshot.json")
        old = (market.operator.place / "trust/authoring").glob("previous-*")
        assert newest.exists()
        (previous,) = old
        (market.operator.place / "trust/metadata/timestamp.json").write_bytes(
            previous.read_bytes()
        )
        ran = market.bolt.sign(
            *("release", "withdraw", NAME, "1.2.0", "--reason", "leaks"),
            *("--submit", "../inbox"),
        )
        assert ran.status == 3
        assert "shows an older state than your memory" in ran.err
        assert market.waiting() == []
