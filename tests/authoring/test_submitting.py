from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.inbox import DirectoryInbox, Waiting
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.submission_file import open_submission
from margo_supplychain.authoring.submitting import hand_in
from margo_supplychain.authoring.written import HandedIn
from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    IncompleteError,
    RefusedError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key
from tests.faults.crash import Crash, crash_points
from tests.peers.clients import serve

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

    from margo_supplychain.authoring.edit import Edit

OTHER = ReleaseName.parse("other/tool")


@dataclass
class Plant:
    """An operator with the publishers acme and other, and their inbox."""

    operator: Vendor
    inbox: DirectoryInbox

    @classmethod
    def made(cls, directory: Path) -> Plant:
        """Make all of it in a new directory."""
        directory.mkdir(exist_ok=True)
        operator = Vendor(directory, profile="standard")
        keys = [key(name) for name in ("offline", "ci", "acme", "other")]
        with operator.create().edit(keys, clock=operator.clock) as edit:
            for name in (PUMP, VALVE, OTHER):
                publisher = name.publisher
                edit.add_publisher(publisher, [key(publisher).public_key], threshold=1)
                edit.add_application(
                    name, [key(f"{publisher}-ci").public_key], policy=OPEN
                )
        (directory / "inbox").mkdir()
        return cls(operator, DirectoryInbox(directory / "inbox"))

    @classmethod
    def at(cls, copy: Path, original: Plant) -> Plant:
        """Return the plant of a copied directory."""
        operator = Vendor(copy, clock=original.operator.clock, profile="standard")
        return cls(operator, DirectoryInbox(copy / "inbox"))

    @property
    def view(self) -> Repository:
        return Repository.view(
            str(self.operator.trust), root=self.operator.repository.root
        )

    def submit(self, *keys: CryptoSigner, **options: Any) -> Any:
        options.setdefault("inbox", self.inbox)
        return self.view.submit(keys, clock=self.operator.clock, **options)

    def release(self, version: str, *, name: ReleaseName = PUMP, **options: Any) -> str:
        """Hand in a release; return the submission's name."""
        with self.submit(key(f"{name.publisher}-ci"), **options) as edit:
            edit.add_release(self.operator.release(version, name=name))
        return handed_in(edit).name


def handed_in(edit: Edit) -> HandedIn:
    assert isinstance(edit.written, HandedIn)
    return edit.written


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant.made(tmp_path)


def test_release_is_handed_in_with_its_content(plant: Plant) -> None:
    before = plant.operator.files()
    with plant.submit(key("acme-ci"), note="first") as edit:
        assert edit.add_release(plant.operator.release("1.0.0"))
    found = handed_in(edit)
    assert plant.operator.files() == before
    assert plant.inbox.names() == ((found.name,), False)
    assert found.inbox == str(plant.inbox.directory)
    assert list(found.roles) == [PUMP.role]
    with plant.inbox.read(found.name) as submission:
        assert submission.label == f"{PUMP.role} v1"
        assert submission.note == "first"
        assert [one.path for one in submission.targets] == [PUMP.release_path("1.0.0")]
        assert found.blobs_along == len(submission.content) == 3
        for what in submission.content:
            with submission.source.blob(what) as stream:
                assert len(stream.read()) == what.size


def test_second_submission_goes_on_from_the_one_that_waits(plant: Plant) -> None:
    first = plant.release("1.0.0")
    with plant.submit(key("acme-ci")) as edit:
        edit.add_release(plant.operator.release("1.1.0"))
        assert list(map(str, edit.releases(PUMP))) == ["1.1.0", "1.0.0"]
    second = handed_in(edit)
    assert second.after == (first,)
    assert any(first[:12] in one for one in edit.warnings)
    with plant.inbox.read(second.name) as submission:
        assert submission.label == f"{PUMP.role} v2"
        assert set(submission.roles[0].signed.targets) == {
            PUMP.release_path("1.0.0"),
            PUMP.release_path("1.1.0"),
        }
        assert [one.path for one in submission.targets] == [PUMP.release_path("1.1.0")]


def test_other_vendors_submission_is_not_built_on(plant: Plant) -> None:
    plant.release("1.0.0", name=OTHER)
    with plant.submit(key("acme-ci")) as edit:
        edit.add_release(plant.operator.release("1.0.0"))
    assert handed_in(edit).after == ()
    assert edit.warnings == ()


def test_policy_is_handed_in_by_the_publishers_key(plant: Plant) -> None:
    with plant.submit(key("acme")) as edit:
        edit.add_application(
            ReleaseName.parse("acme/third"), [key("acme-ci").public_key], policy=OPEN
        )
    with plant.inbox.read(handed_in(edit).name) as submission:
        assert submission.label == "acme v2"
        assert submission.content == ()


def test_nothing_is_handed_in_when_nothing_changes(plant: Plant) -> None:
    with plant.submit(key("acme")) as edit:
        assert not edit.set_policy(PUMP, OPEN)
    assert edit.written is not None
    assert not edit.written.roles
    assert plant.inbox.names().names == ()


def test_what_is_the_operators_is_not_handed_in(plant: Plant) -> None:
    with (
        pytest.raises(RefusedError, match="snapshot and timestamp are the operator's"),
        plant.submit(key("acme")) as edit,
    ):
        edit.refresh()
    with (
        pytest.raises(IncompleteError, match="targets has 0 of 1 signatures"),
        plant.submit(key("acme")) as edit,
    ):
        edit.refresh("targets")
    assert plant.inbox.names().names == ()


def test_two_publishers_are_two_submissions(plant: Plant) -> None:
    with (
        pytest.raises(RefusedError, match="acme and other can't be handed in together"),
        plant.submit(key("acme"), key("other")) as edit,
    ):
        _ = edit.refresh("acme"), edit.refresh("other")


def test_missing_key_without_a_file(plant: Plant) -> None:
    with (
        pytest.raises(IncompleteError, match="acme has 0 of 1 signatures") as caught,
        plant.submit(key("acme-ci")) as edit,
    ):
        edit.refresh("acme")
    assert "--out FILE" in (caught.value.hint or "")


def test_holders_apart_sign_one_after_the_other(plant: Plant, tmp_path: Path) -> None:
    with plant.operator.repository.edit(
        [key("offline"), key("ci"), key("acme"), key("acme-b")],
        clock=plant.operator.clock,
    ) as edit:
        edit.rotate_keys(
            "acme", [key("acme").public_key, key("acme-b").public_key], threshold=2
        )
    file = tmp_path / "acme.tar"
    with plant.submit(key("acme"), file=file) as edit:
        edit.refresh("acme")
    written = handed_in(edit)
    assert (written.file, written.inbox, written.name) == (file, None, "")
    (lacking,) = written.lacking
    assert lacking.startswith("acme has 1 of 2 signatures (missing: ")
    assert plant.inbox.names().names == ()

    with open_submission(file) as submission:
        start = plant.view.handing(clock=plant.operator.clock)
        who = submission.signers(start.load())
        assert [one.met for one in submission.status(who)] == [False]
        with pytest.raises(IncompleteError, match="not complete: acme has 1 of 2"):
            submission.require_complete(who)
        signed = submission.sign(key("acme-b"), who)
        assert signed.is_complete(who)
        assert submission.merge(signed, who=who).is_complete(who)
        with pytest.raises(RefusedError, match="may sign none of acme"):
            submission.sign(key("other"), who)
    written = hand_in(replace(start, inbox=plant.inbox), signed)
    assert plant.inbox.names().names == (written.name,)


def test_old_copy_is_not_signed_on_top_of(plant: Plant) -> None:
    plant.operator.clock.advance(days=5)
    with (
        pytest.raises(ExpiredError) as caught,
        plant.submit(key("acme-ci")),
    ):
        pass
    assert "may show an old copy" in (caught.value.hint or "")


def test_release_that_exists_is_refused_by_the_operators_rules(plant: Plant) -> None:
    plant.release("1.0.0")
    with (
        pytest.raises(RefusedError, match=r"1\.0\.0"),
        plant.submit(key("acme-ci")) as edit,
    ):
        edit.add_release(plant.operator.release("1.0.0", b"other bytes"))


def test_withdrawal_is_handed_in(plant: Plant) -> None:
    first = plant.release("1.0.0")
    with plant.submit(key("acme-ci")) as edit:
        assert edit.withdraw(PUMP, Version.parse("1.0.0"), reason="leaks")
    assert handed_in(edit).after == (first,)


def test_view_over_http_with_a_memory(plant: Plant, tmp_path: Path) -> None:
    root = plant.operator.repository.root
    memory = TrustStore.create(
        tmp_path / "memory", root=root, publishers=frozenset({"acme"})
    )
    with serve(plant.operator.trust) as url:
        view = Repository.view(url)
        assert view.standing(state=memory).profile == "standard"
        for version in ("1.0.0", "1.1.0"):
            with view.submit(
                [key("acme-ci")],
                inbox=plant.inbox,
                state=memory,
                clock=plant.operator.clock,
            ) as edit:
                edit.add_release(plant.operator.release(version))
    assert len(plant.inbox.names().names) == 2
    # What was seen is kept: nobody shows this vendor an older state.
    assert memory.load().timestamp is not None
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert len(done.taken) == 2
    assert done.refused == ()


def test_view_without_a_root(plant: Plant) -> None:
    view = Repository.view(str(plant.operator.trust))
    with (
        pytest.raises(RefusedError, match="can't be believed by itself"),
        view.submit([key("acme-ci")], inbox=plant.inbox),
    ):
        pass


def test_view_is_not_written(plant: Plant) -> None:
    before = plant.operator.files()
    with (
        pytest.raises(RefusedError, match="is the operator's, and only read here"),
        plant.view.edit(
            [key("offline"), key("ci")], clock=plant.operator.clock
        ) as edit,
    ):
        edit.refresh()
    assert plant.operator.files() == before


def test_own_repository_is_not_submitted_to(plant: Plant) -> None:
    with (
        pytest.raises(RefusedError, match=r"Repository\.view|open to be written"),
        plant.operator.repository.submit([key("acme-ci")], inbox=plant.inbox),
    ):
        pass


def test_profile_without_vendors(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path, profile="simple")
    vendor.create_with_pump()
    view = Repository.view(str(vendor.trust), root=vendor.repository.root)
    with (
        pytest.raises(RefusedError, match="has the profile simple"),
        view.submit([key("offline")], file=tmp_path / "x.tar", clock=vendor.clock),
    ):
        pass


def test_policy_whose_bytes_are_lost_is_handed_in_again(plant: Plant) -> None:
    (lost,) = (plant.operator.trust / "targets/acme/policies/valve").iterdir()
    data = lost.read_bytes()
    lost.unlink()
    with plant.submit(key("acme")) as edit:
        assert edit.set_policy(VALVE, OPEN)
    with plant.inbox.read(handed_in(edit).name) as submission:
        assert submission.label == "acme v2"
        assert [one.data for one in submission.targets] == [data]
    plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert lost.read_bytes() == data


def test_file_that_is_there(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"")
    with (
        pytest.raises(RefusedError, match="exists already"),
        plant.submit(key("acme"), file=tmp_path / "x.tar"),
    ):
        pass


def test_two_vendors_at_once(plant: Plant) -> None:
    with plant.submit(key("acme-ci")) as ours, plant.submit(key("other-ci")) as theirs:
        ours.add_release(plant.operator.release("1.0.0"))
        theirs.add_release(plant.operator.release("1.0.0", name=OTHER))
    assert handed_in(ours).after == handed_in(theirs).after == ()
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert sorted(one.publisher for one in done.taken) == ["acme", "other"]
    assert done.refused == ()


def test_key_of_an_application_is_replaced_by_its_publisher(plant: Plant) -> None:
    """From what is published: what waits was signed with the key that is taken away."""
    plant.release("1.0.0")
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert [one.roles for one in done.taken] == [((PUMP.role, 1),)]
    with plant.submit(key("acme"), key("acme-ci-2")) as edit:
        edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    assert set(handed_in(edit).roles) == {"acme", PUMP.role}
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert [one.roles for one in done.taken] == [(("acme", 2), (PUMP.role, 2))]
    with (
        pytest.raises(IncompleteError, match="has 0 of 1 signatures"),
        plant.submit(key("acme-ci")) as edit,
    ):
        edit.refresh(PUMP.role)


def test_what_waits_may_be_refused_after_all(plant: Plant) -> None:
    """Its own policy is in the way; what follows says so, and builds on what stands."""
    plant.release("1.0.0")
    with plant.operator.repository.edit(
        [key("offline"), key("ci"), key("acme")], clock=plant.operator.clock
    ) as edit:
        edit.cut_off_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    with plant.submit(key("acme-ci-2"), key("acme")) as edit:
        edit.add_release(plant.operator.release("1.1.0"))
    assert handed_in(edit).after == ()
    assert any("will be refused as it stands" in one for one in edit.warnings)


def test_inbox_that_can_not_be_looked_at(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop box: written, not listed."""

    def closed(self: DirectoryInbox) -> Waiting:
        raise FetchError("not allowed", url=self.url, status=403)

    monkeypatch.setattr(DirectoryInbox, "names", closed)
    with plant.submit(key("acme-ci")) as edit:
        edit.add_release(plant.operator.release("1.0.0"))
    assert handed_in(edit).name
    assert any("can't be looked at (not allowed)" in one for one in edit.warnings)


def test_targets_signed_apart_from_the_other_holders(
    plant: Plant, tmp_path: Path
) -> None:
    """The operator's own offline role goes the same way."""
    with plant.submit(key("offline")) as edit:
        edit.add_publisher("third", [key("third").public_key], threshold=1)
    with plant.inbox.read(handed_in(edit).name) as submission:
        assert submission.label == "targets v3"
        assert submission.publisher == "targets"
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert [one.publisher for one in done.taken] == ["targets"]
    file = tmp_path / "third.tar"
    with plant.submit(key("third"), inbox=None, file=file) as edit:
        edit.add_application(
            ReleaseName.parse("third/x"), [key("third-ci").public_key], policy=OPEN
        )
    assert handed_in(edit).file == file
    assert handed_in(edit).inbox is None


def test_submission_that_is_killed_while_it_is_written(tmp_path: Path) -> None:
    """It is whole or not there, and the next run hands it in."""
    start = Plant.made(tmp_path / "start")
    start.operator.release("1.0.0")

    def hand_in_there(copy: Path) -> None:
        Plant.at(copy, start).release("1.0.0")

    def check(copy: Path, crash: Crash) -> None:
        plant = Plant.at(copy, start)
        names = plant.inbox.names().names
        assert len(names) == 1 if crash.finished else len(names) <= 1
        for name in names:
            with plant.inbox.read(name) as submission:
                assert submission.label == f"{PUMP.role} v1"
        if not names:
            plant.release("1.0.0")
        done = plant.operator.repository.accept(
            plant.inbox, [key("ci")], clock=plant.operator.clock
        )
        assert len(done.taken) == 1

    writes = crash_points(tmp_path / "start", hand_in_there, check, scratch=tmp_path)
    assert writes > 4


def test_applications_one_after_the_other(plant: Plant) -> None:
    """Keys that left are looked for in what waits, too."""
    third, fourth = (ReleaseName.parse(f"acme/{name}") for name in ("third", "fourth"))
    for number, name in enumerate((third, fourth)):
        with plant.submit(key("acme")) as edit:
            edit.add_application(name, [key("acme-ci").public_key], policy=OPEN)
        assert len(handed_in(edit).after) == number
    with plant.submit(key("acme"), key("acme-ci-2")) as edit:
        edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    with (
        pytest.raises(RefusedError, match="left"),
        plant.submit(key("acme"), key("acme-ci")) as edit,
    ):
        edit.rotate_keys(PUMP.role, [key("acme-ci").public_key], threshold=1)
    done = plant.operator.repository.accept(
        plant.inbox, [key("ci")], clock=plant.operator.clock
    )
    assert [one.roles for one in done.taken] == [
        (("acme", 2),),
        (("acme", 3),),
        (("acme", 4),),
    ]
    assert done.refused == ()
