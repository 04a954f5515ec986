"""A working tree of others: git says what it is told, or runs what its settings say."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.recording import files, git_objects, links
from margo_supplychain.authoring.recording.links import Step
from margo_supplychain.authoring.recording.steps import Wishes, attest
from margo_supplychain.errors import ConflictError, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def git(place: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    ran = subprocess.run(
        ["git", *who, "-c", "protocol.file.allow=always", *arguments],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


def repository(place: Path) -> Path:
    """Make a working tree with the good sources in one commit."""
    (place / "src").mkdir(parents=True)
    (place / "src" / "main.c").write_text("good\n")
    git(place, "init", "-q")
    git(place, "add", ".")
    git(place, "commit", "-qm", "good")
    return place


def replaced(place: Path) -> None:
    good, main = git(place, "rev-parse", "HEAD"), place / "src" / "main.c"
    main.write_text("evil\n")
    git(place, "add", ".")
    tree = git(place, "write-tree")
    git(place, "replace", good, git(place, "commit-tree", "-m", "evil", tree))


def skipped(place: Path) -> None:
    git(place, "update-index", "--skip-worktree", "src/main.c")
    (place / "src" / "main.c").write_text("evil\n")


def assumed(place: Path) -> None:
    git(place, "update-index", "--assume-unchanged", "src/main.c")
    (place / "src" / "main.c").write_text("evil\n")


def stamped(place: Path) -> None:
    main = place / "src" / "main.c"
    git(place, "config", "core.trustctime", "false")
    git(place, "config", "core.checkStat", "minimal")
    os.utime(main, (10**9, 10**9))
    git(place, "update-index", "--refresh")
    main.write_text("evil\n")
    os.utime(main, (10**9, 10**9))


def filtered(place: Path) -> None:
    (place / ".git" / "info" / "attributes").write_text("* filter=x\n")
    git(place, "config", "filter.x.clean", f"touch '{place.parent}/ran'; echo good")
    (place / "src" / "main.c").write_text("evil\n")


def staged(place: Path) -> None:
    (place / "src" / "evil.c").write_text("evil\n")
    (place / ".git" / "info" / "exclude").write_text("")
    git(place, "add", ".")


def in_a_submodule(place: Path) -> None:
    other = repository(place.parent / "other")
    git(place, "submodule", "--quiet", "add", str(other), "lib")
    git(place, "config", "-f", ".gitmodules", "submodule.lib.ignore", "all")
    git(place, "add", ".")
    git(place, "commit", "-qm", "with a submodule")
    (place / "lib" / "src" / "main.c").write_text("evil\n")


def as_a_link(place: Path) -> None:
    (place / "src" / "evil.link.dsse.json").write_text("import evil\n")


def as_a_repository(place: Path) -> None:
    (place / "src" / "evil.c").write_text("evil\n")
    git(place / "src", "init", "-q")


@pytest.mark.parametrize(
    "hide",
    [
        *(replaced, skipped, assumed, stamped, filtered, staged),
        *(in_a_submodule, as_a_link, as_a_repository),
    ],
)
def test_git_says_that_nothing_differs(
    tmp_path: Path, hide: Callable[[Path], None]
) -> None:
    """Mallory has a commit attested to that was not built."""
    place = repository(tmp_path / "work")
    good = git(place, "--no-replace-objects", "rev-parse", "HEAD")
    step = Step("build", base=place, git=place)
    sane = json.loads(attest(step, Wishes(), environment={}).payload)["materials"]
    assert sorted(sane) == ["git/commit", "src/main.c"]
    assert sane["git/commit"]["gitCommit"] == good
    hide(place)
    said = json.loads(attest(step, Wishes(), environment={}).payload)["materials"]
    assert "git/dirty" in said
    assert not (tmp_path / "ran").exists()


def test_a_tree_runs_commands_by_its_filters(tmp_path: Path) -> None:
    """Whoever records what others wrote does not run it."""
    place = repository(tmp_path / "work")
    for name in ("clean", "smudge", "process"):
        git(place, "config", f"filter.x.{name}", f"touch '{tmp_path}/ran'; cat")
    (place / ".gitattributes").write_text("* filter=x diff=x\n")
    (place / "src" / "main.c").touch()
    attest(Step("build", base=place, git=place), Wishes(), environment={})
    assert not (tmp_path / "ran").exists()


def test_a_tree_runs_commands_by_what_is_missing(tmp_path: Path) -> None:
    """git fetches missing objects by a command that its settings name."""
    place = repository(tmp_path / "work")
    upstream = repository(tmp_path / "upstream")
    for name, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(upstream)),
        ("remote.origin.uploadpack", f"touch '{tmp_path}/ran'; git-upload-pack"),
        ("protocol.allow", "always"),
        ("protocol.file.allow", "always"),
    ):
        git(place, "config", name, value)
    step = Step("build", base=place, git=place)
    attest(step, Wishes(), environment={})
    for name in ("HEAD", "HEAD^{tree}"):
        found = git(place, "rev-parse", name)
        file = place / ".git" / "objects" / found[:2] / found[2:]
        data = file.read_bytes()
        file.unlink()
        with pytest.raises(FormatError, match=r"git .* fails|git does not have the"):
            attest(step, Wishes(), environment={})
        file.write_bytes(data)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("worktree", ["", "worktree=.\n"])
def test_a_commit_holds_a_repository_of_its_own(tmp_path: Path, worktree: str) -> None:
    """Files of a commit look like a repository, with settings that run commands."""
    place = repository(tmp_path / "work")
    inner = repository(tmp_path / "inner")
    (inner / ".git").rename(place / "v")
    (place / "v" / "config").write_text(
        f"[core]\nrepositoryformatversion=0\nbare=false\n{worktree}"
        f"fsmonitor=\"touch '{tmp_path}/ran'\"\n"
        f'[filter "x"]\nclean="touch \'{tmp_path}/ran\'; cat"\n'
    )
    (place / "v" / ".gitattributes").write_text("* filter=x\n")
    step = Step("build", base=place, git=place / "v")
    with pytest.raises(FormatError, match=r"^git rev-parse fails|by its settings"):
        attest(step, Wishes(), environment={})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [".gitignore", ".git/info/exclude", ".gitattributes"])
def test_a_pipe_for_git_to_wait_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A job hangs for ever, or does not mind."""
    monkeypatch.setattr(git_objects, "PATIENCE", 1.0)
    place = repository(tmp_path / "work")
    step = Step("build", base=place, git=place)
    attest(step, Wishes(), environment={})
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)
    if name == ".gitattributes":
        attest(step, Wishes(), environment={})
        return
    with pytest.raises(FormatError, match="git ls-files does not end in "):
        attest(step, Wishes(), environment={})


def test_a_file_is_swapped_between_git_and_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good sources are compared with the commit, and bad ones recorded."""
    place = repository(tmp_path / "work")
    main, kept = place / "src" / "main.c", tmp_path / "kept.c"
    real = files.record_files

    def swapped(*arguments: Any, **options: Any) -> Any:
        main.rename(kept)
        main.write_text("evil\n")
        found = real(*arguments, **options)
        kept.rename(main)
        return found

    monkeypatch.setattr(links, "record_files", swapped)
    with pytest.raises(ConflictError, match="the working tree changed while it was"):
        attest(Step("build", base=place, git=place), Wishes(), environment={})
