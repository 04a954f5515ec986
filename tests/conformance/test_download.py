"""Targets: search order, names, what is fetched, and what is left when it fails."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    MetaFile,
    SuccinctRoles,
    TargetFile,
    Targets,
)

from tests.conformance.running import started
from tests.world.repository import key

if TYPE_CHECKING:
    from tests.conformance.running import Client
    from tests.world import World

REFRESHED = ["2.root.json", "timestamp.json"]


def hashed(path: str, data: bytes) -> str:
    directory, slash, name = path.rpartition("/")
    return f"{directory}{slash}{hashlib.sha256(data).hexdigest()}.{name}"


def add_role(world: World, role: str) -> None:
    """Make an empty delegated role with a key of its own."""
    world.roles[role] = Targets()
    world.roles[role].version = 0
    world.signers[role] = [key(role)]
    world.touch(role)


@pytest.mark.parametrize("path", ["a", "dir/a", "one/two/three/a b+c@d~%2F.tar"])
def test_download_and_again(client: Client, world: World, path: str) -> None:
    """What lies there with the right hash is not fetched again."""
    world.add_target("targets", path, b"content")
    world.publish()
    started(client, world)
    run = client.download(path)
    assert run.status == 0, run.said
    assert run.metadata == REFRESHED
    assert len(run.targets) == 1
    assert client.downloaded == [b"content"]
    again = client.download(path)
    assert (again.status, again.metadata, again.targets) == (0, REFRESHED, [])
    assert client.downloaded == [b"content"]


def test_download_refreshes_first(client: Client, world: World) -> None:
    world.add_target("targets", "a", b"content")
    world.publish()
    client.site.serve(world.files)
    client.init(world.files.metadata["1.root.json"])
    run = client.download("a")
    assert run.status == 0, run.said
    assert run.asked == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/2.snapshot.json",
        "metadata/2.targets.json",
        f"targets/{hashed('a', b'content')}",
    ]


def test_a_new_version_of_a_target(client: Client, world: World) -> None:
    world.add_target("targets", "dir/a", b"old")
    world.publish()
    started(client, world)
    assert client.download("dir/a").status == 0
    world.add_target("targets", "dir/a", b"new bytes")
    world.publish()
    client.site.serve(world.files)
    run = client.download("dir/a")
    assert run.targets == [hashed("dir/a", b"new bytes")]
    assert client.downloaded == [b"new bytes"]


def test_a_damaged_download_is_fetched_again(client: Client, world: World) -> None:
    world.add_target("targets", "dir/a", b"content")
    world.publish()
    started(client, world)
    assert client.download("dir/a").status == 0
    (file,) = client.downloads.iterdir()
    file.write_bytes(b"CONTENT")
    run = client.download("dir/a")
    assert (run.status, len(run.targets)) == (0, 1)
    assert client.downloaded == [b"content"]


@pytest.mark.parametrize("served", [b"CONTENT", b"conten", b"content and more", None])
def test_wrong_bytes(client: Client, world: World, served: bytes | None) -> None:
    world.add_target("targets", "dir/a", b"content")
    world.publish()
    started(client, world)
    name = f"targets/{hashed('dir/a', b'content')}"
    if served is None:
        del client.site.files[name]
    else:
        client.site.files[name] = served
    assert client.download("dir/a").status == 1
    assert client.downloaded == []


def test_a_target_that_nobody_lists(client: Client, world: World) -> None:
    started(client, world)
    run = client.download("dir/a")
    assert (run.status, run.targets) == (1, [])
    assert client.downloaded == []


def test_several_in_order_until_one_fails(client: Client, world: World) -> None:
    for name in ("one", "two", "three"):
        world.add_target("targets", f"dir/{name}", name.encode())
    world.publish()
    started(client, world)
    run = client.download("dir/three", "dir/one")
    assert run.status == 0
    assert run.metadata == REFRESHED
    names = [hashed(f"dir/{name}", name.encode()) for name in ("three", "one")]
    assert run.targets == names
    run = client.download("dir/one", "dir/four", "dir/two")
    assert (run.status, run.targets) == (1, [])
    assert sorted(client.downloaded) == [b"one", b"three"]


def test_failed_refresh_downloads_nothing(client: Client, world: World) -> None:
    """Not even what an earlier refresh trusted."""
    world.add_target("targets", "dir/a", b"content")
    world.publish()
    started(client, world)
    world.files.metadata["timestamp.json"] = world.sign("timestamp", [])
    client.site.serve(world.files)
    run = client.download("dir/a")
    assert (run.status, run.targets) == (1, [])
    assert client.downloaded == []


def test_without_consistent_snapshots(client: Client, world: World) -> None:
    world.root.consistent_snapshot = False
    world.write("root", world.sign("root"))
    world.add_target("targets", "dir/sub/a", b"content")
    world.delegate("targets", "role", ("other/*",))
    world.add_target("role", "other/b", b"delegated")
    world.publish()
    client.site.serve(world.files, consistent=False)
    client.init(world.files.metadata["1.root.json"])
    run = client.download("dir/sub/a", "other/b")
    assert run.status == 0, run.said
    assert run.metadata[-3:] == ["snapshot.json", "targets.json", "role.json"]
    assert run.targets == ["dir/sub/a", "other/b"]
    assert sorted(client.downloaded) == [b"content", b"delegated"]


# --- delegations ---------------------------------------------------------------------


def test_pre_order_and_nothing_more(client: Client, world: World) -> None:
    """A before B, A's children before B, nobody twice, none whose paths differ."""
    for role in ("A", "B", "other"):
        paths = ("else/*",) if role == "other" else ("dir/*",)
        world.delegate("targets", role, paths, terminating=False)
    world.delegate("A", "A1", ("dir/*",), terminating=False)
    world.delegate("A", "A2", ("dir/*",), terminating=False)
    world.delegate("A2", "A", ("dir/*",), terminating=False)  # a circle
    world.delegate("B", "B1", ("dir/*",), terminating=False)
    world.delegate("B1", "B2", ("dir/*",), terminating=False)
    world.add_target("B1", "dir/a", b"content")
    world.add_target("B2", "dir/a", b"never seen")
    world.publish()
    started(client, world)
    order = ["A", "A1", "A2", "B", "B1"]
    run = client.download("dir/a")
    assert run.status == 0, run.said
    assert run.metadata == [*REFRESHED, *(f"1.{role}.json" for role in order)]
    assert client.downloaded == [b"content"]
    assert set(client.versions) >= set(order)
    again = client.download("dir/a")
    assert (again.status, again.metadata) == (0, REFRESHED)


def test_a_terminating_delegation_ends_the_search(client: Client, world: World) -> None:
    world.delegate("targets", "A", ("dir/*",), terminating=True)
    world.delegate("targets", "B", ("dir/*",), terminating=False)
    world.add_target("B", "dir/a", b"content")
    world.publish()
    started(client, world)
    run = client.download("dir/a")
    assert (run.status, run.metadata) == (1, [*REFRESHED, "1.A.json"])
    assert client.downloaded == []


def test_roles_serve_several_targets_of_one_run(client: Client, world: World) -> None:
    """One updater for all of them: a role is fetched once."""
    world.delegate("targets", "A", ("dir/*", "sub/*"), terminating=False)
    world.add_target("A", "dir/a", b"first")
    world.add_target("A", "sub/b", b"second")
    world.publish()
    started(client, world)
    run = client.download("dir/a", "sub/b")
    assert run.status == 0, run.said
    assert run.metadata == [*REFRESHED, "1.A.json"]
    assert sorted(client.downloaded) == [b"first", b"second"]


def test_role_by_another_key(client: Client, world: World) -> None:
    world.delegate("targets", "A", ("dir/*",))
    world.add_target("A", "dir/a", b"content")
    world.signers["A"] = [key("mallory")]
    world.publish()
    started(client, world)
    run = client.download("dir/a")
    assert run.status == 1
    assert "[threshold]" in run.said
    assert "A" not in client.versions
    assert client.downloaded == []


ODD = ("dir/role", "/role", "../role", "..", ".", "?", "#", "a b", "%2F", "r\u00f4le")


def test_odd_role_names(client: Client, world: World) -> None:
    """One step of a path and of a URL, encoded without safe characters."""
    for role in ODD:
        world.delegate("targets", role, ("dir/*",), terminating=False)
    world.add_target(ODD[-1], "dir/a", b"content")
    world.publish()
    started(client, world)
    run = client.download("dir/a")
    assert run.status == 0, run.said
    quoted = ["dir%2Frole", "%2Frole", "..%2Frole", "..", "."]
    quoted += ["%3F", "%23", "a%20b", "%252F", "r%C3%B4le"]
    assert run.metadata == [*REFRESHED, *(f"1.{role}.json" for role in quoted)]
    assert client.downloaded == [b"content"]
    top_level = {
        f"{role}.json" for role in ("root", "timestamp", "snapshot", "targets")
    }
    assert set(client.stored) == top_level | {f"{role}.json" for role in quoted}
    assert sorted(one.name for one in client.directory.iterdir()) == [
        "metadata",
        "targets",
        "trusted_root.json",
    ]


def test_succinct_bins(client: Client, world: World) -> None:
    bins = SuccinctRoles([], 1, 4, "bin")
    world.targets.delegations = Delegations({}, succinct_roles=bins)
    world.targets.add_key(key("bins").public_key)
    for role in bins.get_roles():
        add_role(world, role)
        world.signers[role] = [key("bins")]
    world.touch("targets")
    holder = bins.get_role_for_target("dir/a")
    world.add_target(holder, "dir/a", b"content")
    world.publish()
    started(client, world)
    run = client.download("dir/a")
    assert run.status == 0, run.said
    assert run.metadata == [*REFRESHED, f"1.{holder}.json"]
    assert client.downloaded == [b"content"]


def test_hash_prefixes(client: Client, world: World) -> None:
    prefix = hashlib.sha256(b"dir/a").hexdigest()[:2]
    world.targets.delegations = Delegations({}, {})
    for role, prefixes in (("no", ["zz"]), ("yes", ["00ff00", prefix])):
        delegated = DelegatedRole(role, [], 1, False, path_hash_prefixes=prefixes)
        assert world.targets.delegations.roles is not None
        world.targets.delegations.roles[role] = delegated
        world.targets.add_key(key(role).public_key, role)
        add_role(world, role)
    world.touch("targets")
    world.add_target("yes", "dir/a", b"content")
    world.publish()
    started(client, world)
    run = client.download("dir/a")
    assert run.status == 0, run.said
    assert run.metadata == [*REFRESHED, "1.yes.json"]


def test_other_hashes_and_unknown_fields(client: Client, world: World) -> None:
    """Each listed hash counts, and the first one names the file."""
    good = {
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "sha512": hashlib.sha512(b"content").hexdigest(),
    }
    for name, hashes in (("good", good), ("bad", good | {"sha512": "0" * 128})):
        file = TargetFile(7, hashes, name, {"custom": {"any": [1]}, "x-other": 1})
        world.targets.targets[name] = file
    world.touch("targets")
    world.publish()
    started(client, world)
    for name in ("good", "bad"):
        client.site.files[f"targets/{good['sha256']}.{name}"] = b"content"
    run = client.download("good")
    assert run.status == 0, run.said
    assert run.targets == [f"{good['sha256']}.good"]
    assert client.download("bad").status == 1
    assert client.downloaded == [b"content"]


def test_a_role_that_snapshot_does_not_list(client: Client, world: World) -> None:
    world.delegate("targets", "A", ("dir/*",))
    world.add_target("A", "dir/a", b"content")
    world.publish()
    del world.roles["snapshot"].meta["A.json"]
    world.publish_online()
    started(client, world)
    run = client.download("dir/a")
    assert (run.status, run.metadata) == (1, REFRESHED)


def test_snapshot_of_versions_alone_serves_delegations(
    client: Client, world: World
) -> None:
    world.delegate("targets", "A", ("dir/*",))
    world.add_target("A", "dir/a", b"content")
    world.publish()
    for name in ("targets.json", "A.json"):
        entry = world.roles["snapshot"].meta[name]
        world.roles["snapshot"].meta[name] = MetaFile(entry.version)
    world.publish_online()
    started(client, world)
    assert client.download("dir/a").metadata == [*REFRESHED, "1.A.json"]
    assert client.download("dir/a").metadata == REFRESHED
    world.add_target("A", "dir/a", b"newer content")
    world.publish()
    client.site.serve(world.files)
    run = client.download("dir/a")
    assert run.status == 0, run.said
    assert run.metadata == [*REFRESHED, "4.snapshot.json", "2.A.json"]
    assert client.downloaded == [b"newer content"]


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a//b", "a/./b"])
def test_paths_that_lead_elsewhere(client: Client, world: World, path: str) -> None:
    world.targets.targets[path] = TargetFile(
        7, {"sha256": hashlib.sha256(b"content").hexdigest()}, path
    )
    world.touch("targets")
    world.publish()
    started(client, world)
    run = client.download(path)
    assert (run.status, run.targets) == (1, [])
    assert client.downloaded == []
