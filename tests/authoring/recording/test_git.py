"""What git says: tracked files, the commit, and whether anything differs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.recording import git, git_objects
from margo_supplychain.authoring.recording.git import COMMIT, look_at
from margo_supplychain.authoring.recording.links import (
    Step,
    link_of,
    record_materials,
)
from margo_supplychain.errors import ConflictError, FormatError
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.formats.release_products import DIRTY
from margo_supplychain.signing.envelopes import sign_envelope

if TYPE_CHECKING:
    from pathlib import Path


def run(place: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [
            *("git", "-c", "user.name=x", "-c", "user.email=x@example.com"),
            *("-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false"),
            *arguments,
        ],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working tree with two files in one commit."""
    made = tmp_path / "work"
    (made / "src").mkdir(parents=True)
    (made / "Makefile").write_text("all:\n")
    (made / "src" / "main.c").write_text("int main;\n")
    run(made, "init", "-q")
    run(made, "add", ".")
    run(made, "commit", "-qm", "first")
    return made


def materials(
    place: Path, directory: str = ".", **options: Any
) -> dict[str, dict[str, str]]:
    step = Step("build", base=place, git=place / directory)
    return dict(record_materials(step._replace(**options)).artifacts)


def test_a_clean_tree(place: Path) -> None:
    found = look_at(place, base=place)
    assert found.tracked == ("Makefile", "src/main.c")
    assert found.commit == run(place, "rev-parse", "HEAD")
    assert found.differing == ()
    body = subprocess.run(
        ["git", "cat-file", "commit", "HEAD"],
        cwd=place,
        check=True,
        capture_output=True,
    ).stdout
    digest = hashlib.sha256(b"commit %d\0" % len(body) + body).hexdigest()
    assert found.materials(recorded=()) == {
        COMMIT: {"sha256": digest, "gitCommit": found.commit}
    }


def test_by_sha256_it_is_the_id(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "a").write_text("a")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-qm", "first")
    found = look_at(tmp_path, base=tmp_path)
    assert found.commit == found.commit_sha256


def test_files_and_commit_are_materials(place: Path) -> None:
    assert sorted(materials(place)) == ["Makefile", "git/commit", "src/main.c"]
    assert sorted(materials(place, "src")) == ["git/commit", "src/main.c"]
    assert sorted(materials(place, exclude=("src",))) == ["Makefile", "git/commit"]


@pytest.mark.parametrize("what", ["changed", "gone", "new", "renamed", "mode"])
def test_what_differs_is_dirty(place: Path, what: str) -> None:
    file = place / "src" / "main.c"
    if what == "changed":
        file.write_text("int other;\n")
    if what == "gone":
        file.unlink()
    if what == "new":
        (place / "src" / "new.c").write_text("x")
    if what == "renamed":
        run(place, "mv", "src/main.c", "src/moved.c")
    if what == "mode":
        file.chmod(0o755)
    found = materials(place)
    assert DIRTY in found
    assert ("src/main.c" in found) == (what not in {"gone", "renamed"})


def test_the_index_says_nothing(place: Path) -> None:
    file = place / "src" / "main.c"
    file.write_text("int other;\n")
    run(place, "add", ".")
    file.write_text("int main;\n")
    assert look_at(place, base=place).differing == ()
    (place / "src" / "new.c").write_text("x")
    run(place, "add", ".")
    assert look_at(place, base=place).differing == (("?", "src/new.c"),)


@pytest.mark.parametrize(
    "change", ["link", "directory", "pipe", "file for link", "link elsewhere"]
)
def test_other_kinds_of_files(place: Path, change: str) -> None:
    file, link = place / "src" / "main.c", place / "link"
    link.symlink_to("Makefile")
    run(place, "add", ".")
    run(place, "commit", "-qm", "with a link")
    assert look_at(place, base=place).differing == ()
    wanted = [("T", "src/main.c")]
    if change in {"link", "directory", "pipe"}:
        file.unlink()
    if change == "link":
        file.symlink_to("main.c")
    if change == "directory":
        file.mkdir()
    if change == "pipe":
        os.mkfifo(file)
    if change == "file for link":
        link.unlink()
        link.write_text("Makefile")
        wanted = [("T", "link")]
    if change == "link elsewhere":
        link.unlink()
        link.symlink_to("other")
        wanted = [("M", "link")]
    assert [*look_at(place, base=place).differing] == wanted


def test_a_file_that_cannot_be_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("main.c"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert look_at(place, base=place).differing == (("M", "src/main.c"),)


def test_directories_that_are_gone(place: Path) -> None:
    (place / "src" / "deep").mkdir()
    (place / "src" / "deep" / "a.c").write_text("x")
    run(place, "add", ".")
    run(place, "commit", "-qm", "deep")
    shutil.rmtree(place / "src")
    gone = (("D", "src/deep/a.c"), ("D", "src/main.c"))
    assert look_at(place, base=place).differing == gone


def test_large_files(place: Path) -> None:
    (place / "large").write_bytes(b"x" * 600_000)
    (place / "empty").touch()
    run(place, "add", ".")
    run(place, "commit", "-qm", "large and small")
    assert look_at(place, base=place).differing == ()
    with (place / "large").open("ab") as file:
        file.write(b"x")
    assert look_at(place, base=place).differing == (("M", "large"),)


def test_a_linked_and_a_sparse_working_tree(place: Path) -> None:
    run(place, "worktree", "add", "-q", "../linked")
    linked = place.parent / "linked"
    assert look_at(linked / "src", base=linked).tracked == ("src/main.c",)
    assert look_at(linked, base=linked).differing == ()
    run(linked, "sparse-checkout", "set", "--no-cone", "Makefile")
    assert look_at(linked, base=linked).differing == (("D", "src/main.c"),)


def test_what_a_filter_converts_differs(place: Path) -> None:
    (place / ".gitattributes").write_text("*.txt text eol=crlf\n")
    (place / "a.txt").write_bytes(b"a\r\n")
    run(place, "add", ".")
    run(place, "commit", "-qm", "line ends")
    assert run(place, "status", "--porcelain") == ""
    assert look_at(place, base=place).differing == (("M", "a.txt"),)


def test_what_is_ignored_or_recorded_or_a_link_is_not(place: Path) -> None:
    (place / ".git" / "info" / "exclude").write_text("*.o\n")
    (place / "main.o").write_text("x")
    assert DIRTY not in materials(place)
    (place / "dist").mkdir()
    (place / "dist" / "web").write_text("x")
    assert DIRTY in materials(place)
    assert DIRTY not in materials(place, materials=("dist",))
    (place / "dist" / "web").unlink()
    link = place / "build.0011.link.dsse.json"
    link.write_text("{}")
    assert DIRTY in materials(place)
    payload = link_of(Step("x", base=place), materials=materials(place), products={})
    signer = CryptoSigner.generate_ecdsa()
    link.write_bytes(sign_envelope(PAYLOAD, payload, [signer]))
    assert DIRTY not in materials(place)
    link.rename(place / "build.json")
    assert DIRTY in materials(place)


def test_dirt_above_the_place_counts(place: Path) -> None:
    (place / "Makefile").write_text("other:\n")
    found = look_at(place / "src", base=place / "src")
    assert found.tracked == ("main.c",)
    assert found.differing == (("M", "../Makefile"),)


def test_missing_files_are_counted(place: Path) -> None:
    (place / "src" / "main.c").unlink()
    found = record_materials(Step("build", base=place, git=place))
    assert found.recorded.missing == ("src/main.c",)
    assert found.dirty == (("D", "src/main.c"),)


def test_submodules(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init", "-q")
    (other / "lib.c").write_text("x")
    run(other, "add", ".")
    run(other, "commit", "-qm", "lib")
    run(place, "submodule", "add", "-q", str(other), "lib")
    run(place, "commit", "-qm", "with a submodule")
    assert "lib/lib.c" in materials(place)
    (place / "lib" / "lib.c").write_text("changed")
    assert DIRTY in materials(place)
    clone = tmp_path / "clone"
    run(tmp_path, "clone", "-q", str(place), str(clone))
    with pytest.raises(FormatError, match=r"^lib is a submodule that is not checked"):
        materials(clone)
    found = materials(clone, exclude=("lib",))
    assert "Makefile" in found
    assert DIRTY not in found
    (clone / "lib" / "evil.c").write_text("x")
    assert DIRTY in materials(clone, exclude=("lib",))
    (clone / "lib" / "evil.c").unlink()
    (clone / "lib").rmdir()
    assert look_at(clone, base=clone).differing == (("D", "lib"),)


def test_a_submodule_at_another_commit(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init", "-q")
    run(other, "commit", "-q", "--allow-empty", "-m", "lib")
    run(place, "submodule", "add", "-q", str(other), "lib")
    run(place, "commit", "-qm", "with a submodule")
    assert look_at(place, base=place).differing == ()
    run(place / "lib", "commit", "-q", "--allow-empty", "-m", "other")
    assert look_at(place, base=place).differing == (("M", "lib"),)
    run(place, "init", "-q", "nested")
    assert ("?", "nested/") in look_at(place, base=place).differing
    found = look_at(place / "src", base=place / "src").differing
    assert ("?", "../nested/") in found


def test_links_in_the_tree(place: Path) -> None:
    (place / "src" / "link.c").symlink_to("main.c")
    run(place, "add", ".")
    run(place, "commit", "-qm", "a link")
    with pytest.raises(FormatError, match=r"^src/link\.c is a symbolic link to main"):
        materials(place)
    assert "src/link.c" in materials(place, follow_symlinks=True)


def test_a_directory_that_became_a_link(place: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "main.c").write_text("int main;\n")
    (place / "src" / "main.c").unlink()
    (place / "src").rmdir()
    (place / "src").symlink_to(tmp_path / "evil")
    with pytest.raises(FormatError, match=r"^src/main\.c lies behind a symbolic link"):
        materials(place)


def test_odd_names(place: Path) -> None:
    (place / "a b\tc").write_text("x")
    run(place, "add", ".")
    run(place, "commit", "-qm", "odd")
    with pytest.raises(FormatError, match=r"a b\\tc has a name that devices refuse"):
        materials(place)
    odd = place / os.fsdecode(b"caf\xe9")
    odd.write_text("x")
    found = look_at(place, base=place)
    assert ("?", os.fsdecode(b"caf\xe9")) in found.differing
    assert DIRTY in found.materials(recorded=())


def test_files_with_the_names_of_git(place: Path) -> None:
    (place / "git").mkdir()
    (place / "git" / "commit").write_text("x")
    run(place, "add", ".")
    run(place, "commit", "-qm", "odd")
    with pytest.raises(FormatError, match="git/commit has a name by which links say"):
        materials(place)


def test_a_tree_that_changes_meanwhile(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = git.look_at
    calls: list[git.WorkingTree] = []

    def look(directory: Path, *, base: Path) -> git.WorkingTree:
        found = real(directory, base=base)
        if not calls:
            run(place, "commit", "-q", "--allow-empty", "-m", "meanwhile")
        calls.append(found)
        return found

    monkeypatch.setattr(git, "look_at", look)
    with pytest.raises(ConflictError, match="the working tree changed while it was"):
        materials(place)


def test_no_tree_and_no_commit(tmp_path: Path, place: Path) -> None:
    with pytest.raises(FormatError, match=r"git rev-parse fails in .*: fatal: not a"):
        look_at(tmp_path, base=tmp_path)
    with pytest.raises(FormatError, match=r"git rev-parse fails in .*gone"):
        look_at(tmp_path / "gone", base=tmp_path)
    with pytest.raises(FormatError, match="does not lie below"):
        look_at(place, base=place / "src")
    empty = tmp_path / "empty"
    empty.mkdir()
    run(empty, "init", "-q")
    with pytest.raises(FormatError, match="git rev-parse fails in"):
        look_at(empty, base=empty)


def test_no_git(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FormatError, match=r"^git is not installed, and --git asks it$"):
        look_at(place, base=place)


def test_the_environment_does_not_lead_git_elsewhere(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = run(place, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "gone"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert look_at(place, base=place).commit == commit


def test_a_repository_starts_no_monitor(place: Path) -> None:
    monitor = place / ".git" / "monitor"
    monitor.write_text("#!/bin/sh\ntouch ran\n")
    monitor.chmod(0o755)
    run(place, "config", "core.fsmonitor", str(monitor))
    look_at(place, base=place)
    assert not (place / "ran").exists()


# --- objects that are not what they are called ---------------------------------------


def loose(place: Path, kind: str, data: bytes, *, name: str | None = None) -> str:
    """Write an object into the store of a repository, under any name."""
    content = f"{kind} {len(data)}\0".encode() + data
    found = name or hashlib.sha1(content, usedforsecurity=False).hexdigest()
    file = place / ".git" / "objects" / found[:2] / found[2:]
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(zlib.compress(content))
    return found


def commit_of(place: Path, tree: str) -> None:
    """Let HEAD be a commit with this tree."""
    who = "x <x@example.com> 1 +0000"
    text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"
    (place / ".git" / "HEAD").write_text(loose(place, "commit", text.encode()) + "\n")


@pytest.mark.parametrize("kind", ["commit", "tree"])
def test_objects_that_were_written_over(place: Path, kind: str) -> None:
    name = run(place, "rev-parse", "HEAD" if kind == "commit" else "HEAD^{tree}")
    data = subprocess.run(
        ["git", "cat-file", kind, name], cwd=place, check=True, capture_output=True
    ).stdout
    loose(place, kind, data, name=name)
    assert look_at(place, base=place).differing == ()
    loose(place, kind, data[:-1] + b"\x01", name=name)
    # Of a commit git itself notices; of trees nobody would.
    with pytest.raises(FormatError, match=r"hash mismatch|the tree that git gives is"):
        look_at(place, base=place)


def test_an_object_that_is_missing(place: Path) -> None:
    commit_of(place, "11" * 20)
    with pytest.raises(FormatError, match=f"git does not have the tree {'11' * 20}"):
        look_at(place, base=place)


@pytest.mark.parametrize("name", [b"", b".", b"..", b".git", b".GIT", b"a/b"])
def test_a_tree_that_leads_elsewhere(place: Path, name: bytes) -> None:
    blob = run(place, "rev-parse", "HEAD:Makefile")
    data = b"100644 " + name + b"\0" + bytes.fromhex(blob)
    commit_of(place, loose(place, "tree", data))
    with pytest.raises(FormatError, match="holds a tree that is none of git's"):
        look_at(place, base=place)


def test_a_tree_that_holds_itself_many_times_over(place: Path) -> None:
    blob = run(place, "rev-parse", "HEAD:Makefile")
    tree = loose(place, "tree", b"100644 a\0" + bytes.fromhex(blob))
    for _ in range(12):
        names = b"".join(b"40000 %02d\0" % n + bytes.fromhex(tree) for n in range(50))
        tree = loose(place, "tree", names)
    commit_of(place, tree)
    with pytest.raises(FormatError, match="has more than 400000 files"):
        look_at(place, base=place)


def test_a_tree_that_is_very_deep(place: Path) -> None:
    blob = run(place, "rev-parse", "HEAD:Makefile")
    tree = loose(place, "tree", b"100644 a\0" + bytes.fromhex(blob))
    for _ in range(1100):
        tree = loose(place, "tree", b"40000 a\0" + bytes.fromhex(tree))
    commit_of(place, tree)
    (place / "a").mkdir()
    found = look_at(place, base=place)
    assert ("D", "/".join(["a"] * 1101)) in found.differing


def test_git_that_does_not_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_objects, "PATIENCE", 0.2)
    os.mkfifo(place / ".gitignore")
    with pytest.raises(FormatError, match=r"git ls-files does not end in .*: it was"):
        look_at(place, base=place)


def test_a_working_tree_elsewhere(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    run(place, "config", "core.worktree", str(tmp_path / "other"))
    with pytest.raises(FormatError, match=r"rev-parse fails|is in the working tree .*"):
        look_at(place, base=place)
    run(place, "config", "core.worktree", str(tmp_path))
    with pytest.raises(FormatError, match=r"by its settings, and in .*work by its pl"):
        look_at(place, base=tmp_path)
