"""T-137 to T-139: two ways to one token, forks, and keys that are made over others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.pkcs11 import Tokens
from margo_supplychain.signing.pkcs11.module import ProcessLock
from tests.signing.pins import Pins
from tests.softhsm import soft_module, soft_token

if TYPE_CHECKING:
    from margo_supplychain.signing.public_files import KeyRecord

ROOT: Final = Path(__file__).parents[2]
THREADS: Final = 4
SIGNATURES: Final = 400  # of each thread; two locks crash within the first hundred

# In a process of its own: what this is about ends the process.
TWO_WAYS: Final = """
import sys, threading
from pathlib import Path
from margo_supplychain.signing.keyring import open_keyring

uri, number, *modules = sys.argv[1:]
done = []

def pin(*, token, tries_left):
    return "123456"

def work(signer):
    for _ in range(int(number)):
        signer.public_key.verify_signature(signer.sign(b"payload"), b"payload")
    done.append(signer)

first, second = (open_keyring(pin=pin, pkcs11_module=Path(each)) for each in modules)
with first as one, second as two:
    signers = [one.open(uri), two.open(uri)] * 2
    threads = [threading.Thread(target=work, args=(each,)) for each in signers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print(len(done))
"""


def test_one_token_by_two_modules(tmp_path: Path) -> None:
    """A configuration that reaches one token directly and through p11-kit's proxy must
    not end the service that signs: both call one library, which takes one caller."""
    proxy = soft_module(proxy=True)
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        for modules in ((token.module,) * 2, (token.module, proxy)):
            done = subprocess.run(
                [
                    *(sys.executable, "-c", TWO_WAYS),
                    *(token.uri("root"), str(SIGNATURES), *map(str, modules)),
                ],
                env={**os.environ, **token.environment, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, f"{THREADS}\n"), done.stderr


# Python 3.12 warns of forks beside threads: what happens then is tested here.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_with_its_parents_process_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another PID namespace a child may have its parent's number. It must not sign
    with the parent's login, and not wait for a lock that nobody there holds."""
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        pins = Pins(token.pin)
        with open_keyring(pin=pins, pkcs11_module=token.module) as keyring:
            signer = keyring.open(token.uri("root"))
            signer.sign(b"payload")
            lock, inside, leave = ProcessLock(), threading.Event(), threading.Event()

            def hold() -> None:
                with lock.held():
                    inside.set()
                    leave.wait(30)

            thread = threading.Thread(target=hold)
            thread.start()
            inside.wait(30)
            child = os.fork()
            if child == 0:
                free = lock.current().acquire(timeout=5)
                signer.sign(b"payload")
                os._exit(0 if free and len(pins.asked) == 2 else 1)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            leave.set()
            thread.join()
            assert status == 0
            signer.sign(b"payload")
            assert len(pins.asked) == 1


@pytest.mark.parametrize("twins", [False, True])
def test_key_that_is_made_over_another(tmp_path: Path, twins: bool) -> None:
    """A URI with label and id asks for a new key in place of that one. Another key of
    the same label, which nobody named, must not be lost by it; nor one of two."""
    with soft_token(tmp_path, "root-a") as token:
        tokens = Tokens(pin=Pins(token.pin), module=token.module)
        made = make(tokens, token.uri("root", id=b"\x01"))
        if twins:
            tokens.close()
            token.make_key("root", id=b"\x01")
            wanted = token.uri("root", id=b"\x01")
            match = "several keys have that name"
        else:
            wanted = token.uri("root", id=b"\x07")
            match = "object=root;id=%01, which has that name and another id"
        tokens = Tokens(pin=Pins(token.pin), module=token.module)
        before = tokens.tokens(login=True)
        with pytest.raises(SignerError, match=match) as caught:
            make(tokens, wanted, replace=True)
        assert caught.value.hint
        assert tokens.tokens(login=True) == before
        if not twins:
            assert tokens.look(token.uri("root")) == made
            new = make(tokens, token.uri("root", id=b"\x01"), replace=True)
            assert tokens.look(token.uri("root")) == new
        tokens.close()


def make(tokens: Tokens, uri: str, *, replace: bool = False) -> KeyRecord:
    return tokens.generate(uri, scheme=keys.ECDSA_P256, replace=replace)
