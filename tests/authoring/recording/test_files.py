"""Recording files: the same as in-toto where both can, and openly where it can't."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from in_toto.runlib import record_artifacts_as_dict

from margo_supplychain.authoring.recording import files, hashing, scanning
from margo_supplychain.authoring.recording.files import record_files
from margo_supplychain.authoring.recording.hashing import hash_file, identity_of
from margo_supplychain.errors import ConflictError, FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_PIECE = hashing._PIECE


def write(place: Path, name: str, data: bytes = b"x") -> Path:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(place: Path, *paths: str, **options: Any) -> list[str]:
    return sorted(record_files(paths, base=place, **options).artifacts)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern")  # in-toto names it
def test_in_toto_finds_the_same(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path, f"src/{number % 7}/{number}.c", bytes(number * 50))
    write(tmp_path, "src/.hidden", b"x")
    write(tmp_path, "Makefile", b"all:")
    paths = ["src", "Makefile"]
    theirs = record_artifacts_as_dict(  # type: ignore[no-untyped-call]  # none in it
        paths, base_path=str(tmp_path), exclude_patterns=["nothing"]
    )
    assert record_files(paths, base=tmp_path).artifacts == theirs


@pytest.mark.parametrize(
    "size", [0, 1, _PIECE - 1, _PIECE, _PIECE + 1, 3 * _PIECE, 3 * _PIECE + 7]
)
def test_sizes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    write(tmp_path, "file", data)
    found = record_files(["file"], base=tmp_path).artifacts
    assert found == {"file": {"sha256": hashlib.sha256(data).hexdigest()}}


def busy(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Let even little work be worth other processes."""
    monkeypatch.setattr(files, "_WORTH", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))


def test_other_processes_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(500):
        write(tmp_path, f"src/{number}", b"%d" % number)
    alone = record_files(["src"], base=tmp_path)
    busy(monkeypatch, 4)
    started: list[Sequence[str]] = []
    popen = subprocess.Popen

    def start(command: Sequence[str], **options: Any) -> Any:
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    assert record_files(["src"], base=tmp_path) == alone
    assert [one[1:3] for one in started] == [["-I", "-S"]] * 3


def test_another_process_takes_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        write(tmp_path, f"src/{number:02}", b"%d" % number)
    busy(monkeypatch, 2)
    here: list[str] = []

    def slow(path: str, *, base: int | None = None) -> Any:
        if not here:
            time.sleep(1)  # until the other one has had its turn
        here.append(path)
        return hash_file(path, base=base)

    monkeypatch.setattr(files, "hash_file", slow)
    found = files._hash_all([f"src/{one:02}" for one in range(100)], base=tmp_path)
    assert len(here) < 100
    digests = [None if one is None else one[0] for one in found]
    assert digests == [hashlib.sha256(b"%d" % one).digest() for one in range(100)]


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/false", "/bin/echo"])
def test_where_no_process_can_be_had_this_one_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    for number in range(50):
        write(tmp_path, f"src/{number}", b"%d" % number)
    alone = record_files(["src"], base=tmp_path)
    busy(monkeypatch, 2)
    monkeypatch.setattr(sys, "executable", program)
    assert record_files(["src"], base=tmp_path) == alone


def test_what_a_dead_process_took_along_is_hashed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(64):
        write(tmp_path, f"src/{number}", b"%d" % number)
    alone = record_files(["src"], base=tmp_path)
    busy(monkeypatch, 2)
    thief = tmp_path / "thief"
    thief.write_text('#!/bin/sh\neval "dd bs=4 count=1 <&$4" >/dev/null 2>&1; exit 1\n')
    thief.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(thief))
    real = hashing.take

    def late(*arguments: int) -> Any:
        time.sleep(0.3)
        return real(*arguments)

    monkeypatch.setattr(hashing, "take", late)
    assert record_files(["src"], base=tmp_path) == alone


def test_the_process_says_what_it_found(tmp_path: Path) -> None:
    path = write(tmp_path, "file")
    pipe, giving = os.pipe()
    hashing.fill(giving, 2, 1)
    os.close(giving)
    with os.fdopen(pipe, "rb"):
        ran = subprocess.run(
            [sys.executable, "-I", "-S", hashing.__file__, str(pipe), "1"],
            cwd=tmp_path,
            input=b"gone\0file",
            capture_output=True,
            check=True,
            pass_fds=(pipe,),
        )
    found = dict(hashing.answers(ran.stdout))
    assert found == {1: (hashlib.sha256(b"x").digest(), identity_of(path.lstat()))}
    with pytest.raises(struct.error):
        dict(hashing.answers(ran.stdout[:-1]))


def test_the_process_is_this_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\0gone\0b\0c")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    pipe, giving = os.pipe()
    hashing.fill(giving, 4, 3)
    os.close(giving)
    with os.fdopen(pipe, "rb"):
        assert hashing.main([str(pipe), "3"]) == 0
    assert dict(hashing.answers(out.getvalue())).keys() == {0, 2, 3}


@pytest.mark.parametrize("count", [1, 2, 31, 33, 999, 1001, 31_999, 400_000])
def test_every_batch_fits_into_the_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    filled: list[int] = []

    def fill(_: int, count: int, batch: int) -> None:
        filled.append(len(range(0, count, batch)))
        raise InterruptedError

    monkeypatch.setattr(files, "_processes", lambda *_: 1)
    monkeypatch.setattr(hashing, "fill", fill)
    with pytest.raises(InterruptedError):
        files._hash_all(["x"] * count, base=tmp_path)
    assert 0 < filled[0] <= hashing.MAX_BATCHES


def test_more_batches_than_a_pipe_holds() -> None:
    with pytest.raises(ValueError, match="1001 batches, expected up to 1000"):
        hashing.fill(-1, 1001, 1)


def test_how_many_processes_are_worth_their_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "small")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4 * files._WORTH)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)))
    with files._directory(tmp_path) as base:
        assert files._processes([], base) == 0
        assert files._processes(["small"] * 100, base) == 0
        assert files._processes(["large"], base) == 0
        assert files._processes(["large"] * 2, base) == 1
        assert files._processes(["large"] * 9, base) == 2
        assert files._processes(["small", "gone"] * 10_000, base) == 1
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
        assert files._processes(["large"] * 100, base) == files.MAX_PROCESSES - 1
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
        assert files._processes(["large"] * 100, base) == 0


# --- paths ---------------------------------------------------------------------------


def test_paths_in_every_spelling(tmp_path: Path) -> None:
    write(tmp_path, "src/a")
    for path in ("src", "./src", "src/", ".//src/./", str(tmp_path / "src"), "."):
        assert names(tmp_path, path) == ["src/a"]
    assert names(tmp_path, "src", "src/a", ".") == ["src/a"]


def test_a_base_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path, "real/src/a")
    (tmp_path / "link").symlink_to("real")
    base = tmp_path / "link"
    assert names(base, "src") == ["src/a"]
    assert names(base, str(base / "src")) == ["src/a"]
    assert names(base, str(tmp_path / "real" / "src")) == ["src/a"]


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/hostname", "src/../../x", "src/..", "{}/src/../../x", "{}-not/x"],
)
def test_paths_that_lie_elsewhere(tmp_path: Path, path: str) -> None:
    base = tmp_path / "work"
    for name in ("work/src/a", "x", "work-not/x"):
        write(tmp_path, name)
    with pytest.raises(FormatError, match="does not lie below"):
        record_files([path.format(base)], base=base)


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, "file")
    for path in ("gone", "file/gone"):
        with pytest.raises(FormatError, match=f"^{path}: no such file or directory"):
            record_files([path], base=tmp_path)


def test_directories_without_files(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    with pytest.raises(FormatError, match=r"^empty holds no file to record"):
        record_files(["empty"], base=tmp_path)
    write(tmp_path, "left/out.pyc")
    with pytest.raises(FormatError, match=r"^left holds no file to record"):
        record_files(["left"], base=tmp_path, exclude=["*.pyc"])
    with pytest.raises(FormatError, match=r"^left holds no file to record"):
        record_files(["left"], base=tmp_path, exclude=["left"])


def test_nothing_is_left_out_unasked(tmp_path: Path) -> None:
    hidden = ["a.pyc", "b~", ".c", "d.link", "e.git", ".link/x", "__pycache__/y"]
    for name in hidden:
        write(tmp_path, f"src/{name}")
    assert names(tmp_path, "src") == sorted(f"src/{one}" for one in hidden)


def test_git_directories_are_named(tmp_path: Path) -> None:
    write(tmp_path, "src/.git/HEAD")
    write(tmp_path, "src/a")
    with pytest.raises(FormatError, match=r"^src/\.git changes with every git") as why:
        record_files(["src"], base=tmp_path)
    assert "--git DIR records the files that git tracks" in (why.value.hint or "")
    assert names(tmp_path, "src", exclude=[".git"]) == ["src/a"]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_FILES", 3)
    for number in range(3):
        write(tmp_path, f"src/{number}")
    assert len(names(tmp_path, "src")) == 3
    write(tmp_path, "more")
    with pytest.raises(FormatError, match="there are more than 3 files to record"):
        record_files(["src", "more"], base=tmp_path)
    write(tmp_path, "src/4")
    with pytest.raises(FormatError, match="there are more than 3 files to record"):
        record_files(["src"], base=tmp_path)


# --- links and special files ---------------------------------------------------------


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (socket_at, "a socket"),
        (lambda path: path.symlink_to("a"), "a symbolic link to a"),
    ],
    ids=["pipe", "socket", "link"],
)
def test_what_is_no_file(
    tmp_path: Path, make: Callable[[Path], None], kind: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "src/a")
    make(tmp_path / "src" / "odd")
    for paths in (["src"], ["src/odd"]):
        with pytest.raises(FormatError, match=f"^src/odd is {kind}$") as why:
            record_files(paths, base=tmp_path)
        assert "--exclude PATTERN" in (why.value.hint or "")
    assert names(tmp_path, "src", exclude=["odd"]) == ["src/a"]


def test_links_are_followed_when_asked(tmp_path: Path) -> None:
    write(tmp_path, "src/a", b"one")
    write(tmp_path, "other/b", b"two")
    (tmp_path / "src" / "x").symlink_to("a")
    (tmp_path / "src" / "y").symlink_to("../other/b")
    (tmp_path / "z").symlink_to("src/x")
    found = record_files(["src", "z"], base=tmp_path, follow_symlinks=True)
    digest = {one: found.artifacts[one]["sha256"] for one in found.artifacts}
    assert digest["src/x"] == digest["z"] == hashlib.sha256(b"one").hexdigest()
    assert digest["src/y"] == hashlib.sha256(b"two").hexdigest()
    assert sorted(found.followed) == ["src/x", "src/y", "z"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gone", "leads nowhere: gone"),
        ("odd", "leads nowhere: odd"),
        ("/etc/passwd", "leads out of .*: /etc/passwd"),
        ("../../x", "leads (out of .*|nowhere): ../../x"),
        (".", r"to \., which is no regular file"),
    ],
)
def test_links_that_are_not_followed(tmp_path: Path, target: str, message: str) -> None:
    write(tmp_path, "src/a")
    (tmp_path / "src" / "odd").symlink_to(target)
    with pytest.raises(FormatError, match=rf"^src/odd is a symbolic link.*{message}$"):
        record_files(["src"], base=tmp_path, follow_symlinks=True)


def test_a_path_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path, "real/dist/a")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(FormatError, match=r"^link/dist lies behind a symbolic link"):
        record_files(["link/dist"], base=tmp_path)
    with pytest.raises(FormatError, match=r"^link is a symbolic link to real"):
        record_files(["link"], base=tmp_path)


# --- names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"caf\xe9", r"^src/caf\\xe9 has a name that is not UTF-8$"),
        (b"a\\b", r"^src/a\\b has a name that devices refuse: it has a backslash$"),
        (b"a\nb", "has a name that devices refuse: it has characters that nobody"),
        ("cafe\u0301".encode(), "it is not in Unicode's normal form C"),
        ("a\u202eb".encode(), "has characters that nobody sees"),
    ],
)
def test_names_that_no_link_may_hold(tmp_path: Path, name: bytes, message: str) -> None:
    write(tmp_path, "src/a")
    write(tmp_path, "src/" + os.fsdecode(name))
    with pytest.raises(FormatError, match=message) as why:
        record_files(["src"], base=tmp_path)
    assert "rename it" in (why.value.hint or "")


def test_names_that_pass_for_another(tmp_path: Path) -> None:
    write(tmp_path, "src/\u00e4")
    write(tmp_path, "src/\u00c4")
    with pytest.raises(FormatError, match="has a name that looks like"):
        record_files(["src"], base=tmp_path)
    write(tmp_path, "plain/A")
    write(tmp_path, "plain/a")
    assert names(tmp_path, "plain") == ["plain/A", "plain/a"]


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, os.fsdecode(b"src/\xff%d" % number))
    os.mkfifo(tmp_path / "src" / "pipe")
    with pytest.raises(FormatError, match=r"^31 files can't be recorded as") as why:
        record_files(["src"], base=tmp_path)
    assert len(why.value.problems) == 21
    assert why.value.problems[-1] == "and 11 more that can't be recorded"


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "src/a")
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "src/a":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"^src/a can't be read$"):
        record_files(["src"], base=tmp_path)


def test_unreadable_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "src/a")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"can't read .*/src: Permission denied"):
        record_files(["src"], base=tmp_path)


# --- changes meanwhile ---------------------------------------------------------------


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once, right after the files were hashed."""
    real = files._hash_all

    def hash_all(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        act()
        return found

    monkeypatch.setattr(files, "_hash_all", hash_all)


@pytest.mark.parametrize("recent", [True, False])
def test_changes_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recent: bool
) -> None:
    if not recent:
        monkeypatch.setattr(files, "_GRAIN", -(10**12))
    path = write(tmp_path, "src/a", b"one")
    write(tmp_path, "src/b", b"other")

    def set_back() -> None:
        stamps = path.stat()
        path.write_bytes(b"six")
        os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))

    def become_directory() -> None:
        path.unlink()
        path.mkdir()

    acts: list[Callable[[], object]] = [
        lambda: path.write_bytes(b"two"),
        lambda: path.write_bytes(b"longer"),
        set_back,
        lambda: write(tmp_path, "x", b"one").replace(path),
        path.unlink,
        become_directory,
    ]
    for act in acts:
        with monkeypatch.context() as patch:
            between(patch, act)
            with pytest.raises(ConflictError, match=r"src/a.* changed while"):
                record_files(["src"], base=tmp_path)
        if path.is_dir():
            path.rmdir()
        write(tmp_path, "src/a", b"one")


def test_what_becomes_a_link_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "src/a", b"one")

    def swap() -> None:
        path.unlink()
        path.symlink_to("/etc/passwd")

    between(monkeypatch, swap)
    with pytest.raises(
        ConflictError, match=r"^changed while it was hashed: src/a is a"
    ):
        record_files(["src"], base=tmp_path)


def test_new_files_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "src/a")
    between(monkeypatch, lambda: write(tmp_path, "src/new"))
    with pytest.raises(ConflictError, match=r"^src/new changed while files were"):
        record_files(["src"], base=tmp_path)


def test_a_link_that_leads_elsewhere_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "src/a", b"one")
    write(tmp_path, "src/b", b"two")
    link = tmp_path / "src" / "link"
    link.symlink_to("a")

    def turn() -> None:
        link.unlink()
        link.symlink_to("b")

    between(monkeypatch, turn)
    with pytest.raises(ConflictError, match=r"^src/link changed while"):
        record_files(["src"], base=tmp_path, follow_symlinks=True)


def test_a_file_that_was_just_written_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "src/a", b"one")
    stamp = path.stat().st_ctime_ns
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    for age, wanted in ((-9, [0.02]), (0, [0.02]), (19_999_999, [0.02]), (10**8, [])):
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _, a=age: stamp + a)
        record_files(["src"], base=tmp_path)
        assert slept == wanted
        slept.clear()


def test_a_second_change_that_no_stamp_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "src/a", b"one")
    identity = identity_of(path.lstat())
    # A file system whose clock stands still: nothing but the content tells.
    for module in (hashing, scanning):
        monkeypatch.setattr(module, "identity_of", lambda _: identity)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: identity[-1])
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(b"two"))
    with pytest.raises(ConflictError, match=r"^src/a changed while files"):
        record_files(["src"], base=tmp_path)


def test_a_file_that_grows_is_not_read_for_ever(tmp_path: Path) -> None:
    path = write(tmp_path, "log", bytes(10))
    for size in (5, 11, _PIECE + 1):
        with path.open("rb") as file:
            assert hashing._hash(file.fileno(), size) is None
    path.write_bytes(bytes(_PIECE + 10))
    with path.open("rb") as file:
        assert hashing._hash(file.fileno(), _PIECE + 1) is None


def test_what_can_not_be_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    write(tmp_path, "file")
    for name in ("pipe", "link", "gone", "."):
        assert hash_file(str(tmp_path / name)) is None

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", refuse)
    assert hash_file(str(tmp_path / "file")) is None
