"""PKCS#11 modules: which are loaded, and what a process shares of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import Tokens, failures, module
from margo_supplychain.signing.pkcs11.calls import Calls
from margo_supplychain.signing.pkcs11.module import (
    ProcessLock,
    check_module,
    load_module,
    problem_of,
)
from tests.signing.pins import Pins
from tests.softhsm import soft_module, soft_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.softhsm import SoftToken


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of this user's; what lies above it is taken to be root's."""
    above = set()
    for each in (tmp_path, *tmp_path.parents):
        status = each.stat()
        above.add((status.st_dev, status.st_ino))

    def judge(status: os.stat_result) -> str | None:
        if (status.st_dev, status.st_ino) in above:
            return None
        return problem_of(status)

    monkeypatch.setattr(module, "problem_of", judge)
    place = tmp_path / "lib"
    place.mkdir(mode=0o755)
    (place / "module.so").write_bytes(b"\x7fELF")
    (place / "module.so").chmod(0o644)
    return place


def test_sound_module(place: Path) -> None:
    assert check_module(place / "module.so") == place / "module.so"
    assert check_module(place / ".." / "lib" / "module.so") == place / "module.so"


def test_module_behind_links(place: Path) -> None:
    (place / "far").symlink_to(place)
    (place / "near.so").symlink_to("../lib/module.so")
    (place / "both.so").symlink_to(place / "far" / "near.so")
    assert check_module(place / "both.so") == place / "module.so"


def make_directory(place: Path) -> None:
    (place / "m.so").mkdir()


def make_pipe(place: Path) -> None:
    os.mkfifo(place / "m.so")


def make_loop(place: Path) -> None:
    (place / "m.so").symlink_to("m.so")


def make_writable(place: Path) -> None:
    (place / "m.so").touch()
    (place / "m.so").chmod(0o646)


def make_group_writable(place: Path) -> None:
    (place / "m.so").touch()
    (place / "m.so").chmod(0o664)


def make_sticky(place: Path) -> None:
    (place / "m.so").touch()
    place.chmod(0o1777)


def link_to_drop(place: Path) -> None:
    (place / "drop").mkdir()
    (place / "drop").chmod(0o777)
    (place / "drop" / "m.so").touch()
    (place / "m.so").symlink_to("drop/m.so")


def link_through_drop(place: Path) -> None:
    """The file is sound; a link on the way to it is anybody's to change."""
    (place / "drop").mkdir()
    (place / "drop").chmod(0o777)
    (place / "drop" / "here").symlink_to(place)
    (place / "m.so").symlink_to("drop/here/module.so")


def nothing(place: Path) -> None:
    del place


@pytest.mark.parametrize(
    ("prepare", "match"),
    [
        (nothing, "no such file"),
        (make_directory, "is not a file"),
        (make_pipe, "is not a file"),
        (make_loop, "loop of links"),
        (make_writable, r"m\.so can be changed by others .*\(mode 0646\)"),
        (make_group_writable, r"m\.so can be changed by others .*\(mode 0664\)"),
        (make_sticky, r"lib can be changed by others .*\(mode 1777\)"),
        (link_to_drop, r"drop can be changed by others .*\(mode 0777\)"),
        (link_through_drop, r"drop can be changed by others .*\(mode 0777\)"),
    ],
)
def test_unsound_module(
    place: Path, prepare: Callable[[Path], None], match: str
) -> None:
    prepare(place)
    with pytest.raises(SignerError, match=match) as caught:
        check_module(place / "m.so")
    assert caught.value.hint is not None


def test_module_without_an_absolute_path() -> None:
    with pytest.raises(SignerError, match=r"libx\.so is not an absolute path"):
        check_module(Path("libx.so"))


def test_module_through_a_file(place: Path) -> None:
    with pytest.raises(SignerError, match="is no directory"):
        check_module(place / "module.so" / "m.so")


def test_whose_it_may_be(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = (place / "module.so").stat()
    assert problem_of(status) is None
    fields = list(status)
    fields[4] = 0  # st_uid
    assert problem_of(os.stat_result(fields)) is None
    fields[4] = 4242
    assert problem_of(os.stat_result(fields)) == "belongs to another user (uid 4242)"
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert problem_of(os.stat_result(fields)) is None


def test_no_module_at_all() -> None:
    with pytest.raises(SignerError, match="no PKCS#11 module is named") as caught:
        Tokens(pin=Pins(), module=None).open("pkcs11:token=a")
    assert "pkcs11-module" in str(caught.value.hint)


def test_file_that_is_no_library(place: Path) -> None:
    tokens = Tokens(pin=Pins(), module=place / "module.so")
    with pytest.raises(SignerError, match="cannot be loaded: OS exception"):
        tokens.present("pkcs11:token=a")


def test_library_that_is_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    soft_module()  # python-pkcs11 is there whenever SoftHSM is
    import math

    if not getattr(math, "__file__", None):
        pytest.skip("this Python's extension modules are part of it")
    monkeypatch.setattr(module, "problem_of", lambda _: None)
    tokens = Tokens(pin=Pins(), module=Path(str(math.__file__)))
    with pytest.raises(SignerError, match="cannot be loaded"):
        tokens.present("pkcs11:token=a")


def test_extra_that_is_not_installed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    tokens = Tokens(pin=Pins(), module=place / "module.so")
    for ask in (tokens.present, tokens.look, tokens.open, tokens.tokens):
        with pytest.raises(SignerError, match="need python-pkcs11") as caught:
            ask("pkcs11:token=a;object=b")
        assert caught.value.hint == "pip install 'margo-supplychain[hsm]'"
    with pytest.raises(SignerError, match="need python-pkcs11"):
        tokens.generate("pkcs11:token=a;object=b", scheme="ed25519")


def test_uris_need_nothing_heavy() -> None:
    """A command that only looks at a URI loads neither python-pkcs11 nor ctypes."""
    code = (
        "import sys; from margo_supplychain.signing.pkcs11 import TokenUri, Tokens; "
        "TokenUri.parse('pkcs11:token=a'); "
        "print(sorted({'pkcs11', 'ctypes', 'asn1crypto', 'cryptography'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


def test_one_module_by_two_names(tmp_path: Path) -> None:
    with soft_token(tmp_path, "root-a") as token:
        resolved = token.module.resolve()
        assert load_module(token.module) is load_module(resolved)
        tokens = Tokens(pin=Pins(), module=resolved)
        assert tokens.present(token.uri())
        assert tokens.present(f"{token.uri()}?module-path={token.module}")
        tokens.close()


def test_module_that_somebody_else_uses_under_another_name(tmp_path: Path) -> None:
    with soft_token(tmp_path, "root-a") as token:
        code = (
            "import sys, pkcs11; from pathlib import Path\n"
            "from margo_supplychain.signing.pkcs11 import Tokens\n"
            "pkcs11.lib(sys.argv[1])\n"
            "tokens = Tokens(pin=lambda **_: '', module=Path(sys.argv[2]))\n"
            "print(tokens.present('pkcs11:token=root-a'))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, token.module.resolve(), token.module],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_module_that_another_library_started(tmp_path: Path) -> None:
    """Its C_Finalize is not ours to call: it says so."""
    with soft_token(tmp_path, "root-a") as token:
        code = (
            "import ctypes, sys; from pathlib import Path\n"
            "library = ctypes.CDLL(sys.argv[1]); library.C_Initialize(None)\n"
            "from margo_supplychain.errors import SignerError\n"
            "from margo_supplychain.signing.pkcs11 import Tokens\n"
            "tokens = Tokens(pin=lambda **_: '', module=Path(sys.argv[1]))\n"
            "try:\n    tokens.present('pkcs11:token=root-a')\n"
            "except SignerError as why:\n    print(why, why.hint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(token.module)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "does not start: CKR_CRYPTOKI_ALREADY_INITIALIZED" in done.stdout
        assert "another library in this process" in done.stdout


def generation_after(token: SoftToken, finalize: bool = False) -> int:
    """Use the module once; say which of its starts that was."""
    loaded = load_module(token.module)
    with loaded.use() as library:
        assert library.initialized
        if finalize:
            library.finalize()
        return loaded.generation


def test_restart_ends_what_was_open(tmp_path: Path) -> None:
    with soft_token(tmp_path, "root-a") as token:
        before = generation_after(token)
        load_module(token.module).restart()
        assert generation_after(token, finalize=True) == before + 1
        assert not load_module(token.module).is_here
        assert generation_after(token) == before + 2
        assert load_module(token.module).is_here


@pytest.mark.parametrize("proxy", [False, True], ids=["module", "p11-kit"])
def test_module_in_a_child(tmp_path: Path, proxy: bool) -> None:
    """What a child does first, as if this process were one (tests count no children);
    test_pkcs11_signer.py forks in earnest."""
    with soft_token(tmp_path, "root-a", proxy=proxy) as token:
        before = generation_after(token)
        loaded = load_module(token.module)
        loaded._process = (-1, -1)
        assert not loaded.is_here
        assert generation_after(token) == before + 1
        assert loaded.is_here


def test_module_that_noticed_the_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts by C_Initialize alone; its C_Finalize could disturb the parent."""
    with soft_token(tmp_path, "root-a") as token:
        before = generation_after(token)
        loaded = load_module(token.module)
        monkeypatch.setattr(Calls, "initialize", lambda _: failures.OK)
        monkeypatch.setattr(module.Module, "_start", None)
        loaded._process = (-1, -1)
        assert generation_after(token) == before + 1
        monkeypatch.undo()


def test_module_that_does_not_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with soft_token(tmp_path, "root-a") as token:
        loaded = load_module(token.module)
        with loaded.use() as library:
            library.finalize()
        monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "absent"))
        with (
            pytest.raises(SignerError, match="does not start: CKR_GENERAL_ERROR") as e,
            loaded.use(),
        ):
            pass
        assert "SOFTHSM2_CONF" in str(e.value.hint)
        monkeypatch.undo()
        with loaded.use() as library:
            assert library.initialized


# Python 3.12 warns of forks beside threads: what happens then is tested here.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_lock_of_a_process_that_forked() -> None:
    """A child must not wait for a thread that it does not have."""
    lock = ProcessLock()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)
    try:
        assert not lock.current().acquire(blocking=False)
        child = os.fork()
        if child == 0:
            os._exit(0 if lock.current().acquire(blocking=False) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        leave.set()
        thread.join()


def test_fork_waits_for_who_is_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORK_PATIENCE", 0.05)
    monkeypatch.setattr(module, "_forks", module._forks)  # this stays the parent
    with soft_token(tmp_path, "root-a") as token:
        loaded = load_module(token.module)
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with loaded.use():
                inside.set()
                leave.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait(30)
        module._enter_fork()  # as os.fork() does; its patience ends
        assert loaded.lock.current() not in module._held_locks()
        module._leave_fork()
        leave.set()
        thread.join()
        module._enter_fork()
        assert loaded.lock.current() in module._held_locks()
        module._leave_fork()
        assert module._held_locks() == []
        module._enter_fork()
        held = list(module._held_locks())
        module._forget_fork()
        assert module._held_locks() == []
        for lock in held:
            lock.release()


class SlotIDInvalid(Exception):  # noqa: N818 - named as python-pkcs11 does
    pass


class PinLenRange(Exception):  # noqa: N818 - likewise
    pass


class PKCS11Error(Exception):
    pass


@pytest.mark.parametrize(
    ("why", "ckr"),
    [
        (PinLenRange(), "CKR_PIN_LEN_RANGE"),
        (SlotIDInvalid(), "CKR_SLOT_ID_INVALID"),
        (PKCS11Error("Unmapped error code 0x200"), "CKR_FUNCTION_REJECTED"),
        (PKCS11Error("Unmapped error code 0xb8"), "CKR_SESSION_READ_WRITE_SO_EXISTS"),
        (PKCS11Error("Unmapped error code 0x80000001"), "CKR 0x80000001"),
        (PKCS11Error("error (not initialized)"), "CKR_CRYPTOKI_NOT_INITIALIZED"),
        (PKCS11Error("(already initialized)"), "CKR_CRYPTOKI_ALREADY_INITIALIZED"),
        (PKCS11Error("?"), "an unnamed CKR"),
    ],
)
def test_names_of_codes(why: Exception, ckr: str) -> None:
    assert failures.ckr_of(why) == ckr


def test_every_exception_has_the_standards_name() -> None:
    """Where its number is known here, too, both say the same."""
    exceptions = pytest.importorskip("pkcs11.exceptions")
    known = set(failures._CODES.values())
    named = {
        failures.ckr_of(one())
        for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, exceptions.PKCS11Error)
    }
    # Those that python-pkcs11 has no class for.
    assert sorted(known - named - {failures.OK}) == [
        "CKR_CANT_LOCK",
        "CKR_CRYPTOKI_ALREADY_INITIALIZED",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
        "CKR_NEED_TO_CREATE_THREADS",
        "CKR_USER_TYPE_INVALID",
    ]


def test_code_without_a_hint_of_its_own() -> None:
    why = failures.refusal("token a", "CKR_RANDOM_NO_RNG")
    assert str(why) == "token a: CKR_RANDOM_NO_RNG"
    assert why.hint == "look the code up in the manual of the token's module"


def test_library_whose_functions_nobody_gives(tmp_path: Path) -> None:
    """No direct calls: the login goes by python-pkcs11, as behind p11-kit's proxy."""
    import math

    assert Calls.of(tmp_path / "absent.so") is None
    if getattr(math, "__file__", None):
        assert Calls.of(Path(str(math.__file__))) is None
