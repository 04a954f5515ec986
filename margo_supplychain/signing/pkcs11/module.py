"""PKCS#11 modules: which may be loaded, and one lock around them in each process.

A module is foreign code that runs in this process with the keys at hand, so its path is
checked before it is loaded. Then three facts of PKCS#11 decide how it is used:

- python-pkcs11 initialises modules without locking and calls them without Python's
  lock; SoftHSM crashes when two threads do that. So every call is made inside
  `Module.use()`. There is one lock for all modules of a process: p11-kit's proxy calls
  the very library that is loaded directly as well, and two locks would guard nothing.
- Module, logins and sessions belong to a process. A forked child inherits them as
  bytes, not as something that works (or works without a PIN). `use()` looks each time
  which process this is, and starts the module anew in a child. Forks wait, for a
  bounded time, until no thread is inside a module.
- Whoever else uses the module in this process may end it. `use()` starts it again.

Each start has a number, `Module.generation`: what was opened in an earlier one is gone.

SoftHSM reads its configuration, and which tokens there are, only when it starts. A test
that changes either finalizes the module (`pkcs11._loaded`, or `Module.restart`).
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the class's name there

    from margo_supplychain.signing.pkcs11.calls import Calls

MAX_LINKS: Final = 40  # as Linux has it
FORK_PATIENCE: Final = 10.0  # seconds that a fork waits for calls that run
_MODULE_HINT: Final = (
    "a PKCS#11 module runs inside this program: use one that the system's packages "
    "installed, or one that only root or you can change"
)
_INSTALL: Final = "pip install 'margo-supplychain[hsm]'"


def check_module(path: Path) -> Path:
    """Check that nobody else can change what would be loaded.

    Every directory on the way, through symbolic links, too, and the file itself must
    belong to root or to this user, and be writable by nobody else; a sticky directory
    such as /tmp is writable by all.

    Returns:
        The path without symbolic links.

    Raises:
        SignerError: relative, absent, no regular file, or others can change it.
    """
    if not path.is_absolute():
        raise SignerError(
            f"PKCS#11 module {path} is not an absolute path",
            hint="give its whole path, such as /usr/lib/softhsm/libsofthsm2.so",
        )
    links = 0
    place, rest = Path("/"), list(path.parts[1:])
    _check_status(place, path)
    while rest:
        step = rest.pop(0)
        if step == "..":
            place = place.parent
            continue
        found = place / step
        status = _check_status(found, path)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise SignerError(
                    f"PKCS#11 module {path} leads through a loop of links"
                )
            target = found.readlink()
            if target.is_absolute():
                place = Path("/")
            rest = [*(part for part in target.parts if part != "/"), *rest]
        else:
            place = found
            if rest and not stat.S_ISDIR(status.st_mode):
                raise SignerError(f"PKCS#11 module {path}: {found} is no directory")
    if not stat.S_ISREG(place.lstat().st_mode):
        raise SignerError(f"PKCS#11 module {path} is not a file", hint=_MODULE_HINT)
    return place


def _check_status(found: Path, module: Path) -> os.stat_result:
    try:
        status = found.lstat()
    except OSError as why:
        reason = (why.strerror or "it cannot be looked at").lower()
        raise SignerError(
            f"PKCS#11 module {module}: {reason}",
            hint="install it, or name another: module-path in the URI, or the setting "
            "pkcs11-module",
        ) from why
    problem = problem_of(status)
    if problem is not None:
        raise SignerError(
            f"PKCS#11 module {module} is not loaded: {found} {problem}",
            hint=_MODULE_HINT,
        )
    return status


def problem_of(status: os.stat_result) -> str | None:
    """Return who else may change a file or directory, or None."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (uid {status.st_uid})"
    # A link's own mode means nothing; its directory's does.
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        return f"can be changed by others than its owner (mode {mode:04o})"
    return None


_forks = 0
_held = threading.local()


def this_process() -> tuple[int, int]:
    """Return what is another value in every process that has this one's memory.

    Its id alone is not: a child in another PID namespace may have its parent's.
    """
    return _forks, os.getpid()


@final
class ProcessLock:
    """A lock that a forked child finds open, whoever held it when it was forked."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[tuple[int, int], threading.RLock] = {}

    def current(self) -> threading.RLock:
        """Return this process's lock."""
        process = this_process()
        lock = self._locks.get(process)
        if lock is None:
            # setdefault is atomic: two threads get the same lock.
            lock = self._locks.setdefault(process, threading.RLock())
        return lock

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold this process's lock."""
        with self.current():
            yield


_lock: Final = ProcessLock()
_refused: Final[dict[object, set[bytes]]] = {}


@final
class Module:
    """A loaded module.

    Attributes:
        path: as it was named.
        generation: counts its starts; see the module docstring.
        refused: by token, fingerprints of PINs that were wrong (sessions.py); of all
            modules, because one token may be reached through several.
        logins: by token, generation and session that logged in (sessions.py).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.refused = _refused
        self.logins: dict[object, tuple[int, object]] = {}
        self.lock = _lock
        self._library: Library | None = None
        self._calls: Calls | None = None
        self._asked_for_calls = False
        self._process: tuple[int, int] | None = None

    @contextmanager
    def use(self) -> Iterator[Library]:
        """Hold the lock, with the module started in this very process."""
        with self.lock.current():
            yield self._ready()

    @property
    def calls(self) -> Calls | None:
        """Direct calls, where the module allows them; only inside `use`."""
        if self._asked_for_calls:
            return self._calls
        from margo_supplychain.signing.pkcs11.calls import Calls

        self._calls, self._asked_for_calls = Calls.of(self.path), True
        return self._calls

    @property
    def is_here(self) -> bool:
        """Whether it runs in this process; a child does not close what it inherited."""
        library = self._library
        ours = self._process == this_process()
        return library is not None and ours and library.initialized

    def restart(self) -> None:
        """End the module and start it again; every session in this process is gone."""
        with self.use() as library:
            self._start(library)

    def _ready(self) -> Library:
        library, process = self._library, this_process()
        if library is None:
            library = self._library = _load(self.path)
            self.generation += 1
        elif not library.initialized:
            self._start(library)
        elif process != self._process:
            self._start_in_child(library)
        self._process = process
        return library

    def _start_in_child(self, library: Library) -> None:
        # PKCS#11 3.1, 5.4: the child calls C_Initialize itself. A module that notices
        # forks has forgotten the parent's state by then; SoftHSM has not, and says so.
        if self.calls is not None and self.calls.initialize() == failures.OK:
            self.generation += 1
        else:
            self._start(library)

    def _start(self, library: Library) -> None:
        import pkcs11

        self.generation += 1
        try:
            if library.initialized:
                library.finalize()
        except pkcs11.PKCS11Error:
            pass  # nothing to end: somebody else did, or it noticed the fork
        try:
            library.initialize()
        except pkcs11.PKCS11Error as why:
            raise failures.refusal(
                f"PKCS#11 module {self.path} does not start", failures.ckr_of(why)
            ) from why


# Modules are of the process, whoever names them, and so is what they share.
_modules: dict[Path, Module] = {}


def load_module(path: Path) -> Module:
    """Return the module at `path`, checked now and loaded at its first use.

    Raises:
        SignerError: see `check_module`.
    """
    resolved = check_module(path)
    return _modules.setdefault(resolved, Module(path))


def _load(path: Path) -> Library:
    try:
        import pkcs11
    except ImportError as why:
        raise SignerError(
            "keys in PKCS#11 tokens need python-pkcs11, which is not installed",
            hint=_INSTALL,
        ) from why
    resolved = path.resolve()
    try:
        for name in list(pkcs11._loaded):  # noqa: SLF001 - no public reader
            # Another user of python-pkcs11 may have loaded the same file by another
            # name; a second copy could not be initialised beside it.
            if Path(name).resolve() == resolved:
                return pkcs11.lib(name)
        return pkcs11.lib(str(path))
    except pkcs11.PKCS11Error as why:
        ckr = failures.ckr_of(why)
        if "loading" in str(why):
            raise SignerError(
                f"PKCS#11 module {path} cannot be loaded: {why}",
                hint="is it a PKCS#11 module for this machine",
            ) from why
        raise failures.refusal(f"PKCS#11 module {path} does not start", ckr) from why


# --- forks ---------------------------------------------------------------------------


def _enter_fork() -> None:
    # A thread that is inside a module would leave the child a half-changed one, and
    # OpenSSL's locks held by nobody. The child's own locks are new: see ProcessLock.
    lock = _lock.current()
    if lock.acquire(timeout=FORK_PATIENCE):
        _held_locks().append(lock)


def _leave_fork() -> None:
    held = _held_locks()
    while held:
        held.pop().release()


def _forget_fork() -> None:
    global _forks  # noqa: PLW0603 - there is one such number, of the process
    _forks += 1
    _held_locks().clear()


def _held_locks() -> list[threading.RLock]:
    if not hasattr(_held, "locks"):
        _held.locks = []
    locks: list[threading.RLock] = _held.locks
    return locks


# Before any module: a lock that is made in one process must not be a child's.
os.register_at_fork(
    before=_enter_fork, after_in_parent=_leave_fork, after_in_child=_forget_fork
)
