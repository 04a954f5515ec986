"""Signatures of a SoftHSM P-256 key, by securesystemslib's HSMSigner in the same run.

Ours verifies each signature before it is handed out; HSMSigner does not, and logs in
for each. Every measurement is a process of its own, and the two take turns, so that a
busy machine slows both alike. Then four threads sign with one key, and a forked child
with what it inherited.

    python -m tests.benchmarks.pkcs11_signing [--signatures 1500] [--runs 5] [--least 5]

With `--least`, the exit status is 1 for a smaller ratio, for a signature that failed in
a thread, or for more than one PIN.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.keyring import open_keyring
from tests.benchmarks.processes import PLACE, ROOT
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Signer

    from tests.softhsm import SoftToken

PAYLOAD: Final = bytes(2048)
THREADS: Final = 4
LABEL: Final = "bench"
PIN: Final = "123456"
KEY_ID: Final = 2  # what HSMSigner looks for by itself


class Asked:
    """A PIN handler that counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        del token, tries_left
        self.times += 1
        return PIN


def seconds(signer: Signer, signatures: int) -> float:
    """Return how long so many signatures take, after one to warm up."""
    signer.sign(PAYLOAD)
    begun = time.perf_counter()
    for _ in range(signatures):
        signer.sign(PAYLOAD)
    return time.perf_counter() - begun


def _module() -> Path:
    return Path(os.environ["MARGO_SUPPLYCHAIN_PKCS11_MODULE"])


# --- what each process does; it prints numbers ----------------------------------------


def ours(signatures: int) -> Iterator[float]:
    asked = Asked()
    with open_keyring(pin=asked, pkcs11_module=_module()) as keyring:
        signer = keyring.open(f"pkcs11:token={LABEL};object=key")
        yield seconds(signer, signatures)
    yield asked.times


def theirs(signatures: int) -> Iterator[float]:
    from securesystemslib.signer import HSMSigner

    os.environ["PYKCS11LIB"] = str(_module())
    asked = Asked()
    uri, key = HSMSigner.import_(KEY_ID, LABEL)

    def secret(_: str) -> str:
        return asked(token=LABEL, tries_left=None)

    yield seconds(HSMSigner.from_priv_key_uri(uri, key, secret), signatures)
    yield asked.times


def threads(signatures: int) -> Iterator[float]:
    asked = Asked()
    done = [0] * THREADS
    with open_keyring(pin=asked, pkcs11_module=_module()) as keyring:
        signer = keyring.open(f"pkcs11:token={LABEL};object=key")

        def work(number: int) -> None:
            for _ in range(signatures):
                signer.public_key.verify_signature(signer.sign(PAYLOAD), PAYLOAD)
                done[number] += 1

        workers = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        begun = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        yield time.perf_counter() - begun
    yield sum(done)
    yield asked.times


def fork(signatures: int) -> Iterator[float]:
    """Sign in a child; 1 if it worked, 0 for a typed error, and how long it took."""
    del signatures
    with open_keyring(pin=Asked(), pkcs11_module=_module()) as keyring:
        signer = keyring.open(f"pkcs11:token={LABEL};object=key")
        signer.sign(PAYLOAD)
        begun = time.perf_counter()
        child = os.fork()
        if child == 0:
            try:
                signer.sign(PAYLOAD)
            except SignerError:
                os._exit(7)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, 7):
            raise RuntimeError(f"the child ended with {status}")
        yield float(status == 0)
        yield time.perf_counter() - begun
        signer.sign(PAYLOAD)  # the parent goes on


WORK: Final = {one.__name__: one for one in (ours, theirs, threads, fork)}


def in_a_process(what: str, signatures: int, token: SoftToken) -> list[float]:
    """Do one of `WORK` in a process of its own; return the numbers it printed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.pkcs11_signing"),
            *("--work", what, "--signatures", str(signatures)),
        ],
        env=os.environ | dict(token.environment) | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def measure(signatures: int, runs: int, token: SoftToken, least: float) -> bool:
    """Measure and print; return whether all of it is good enough."""
    taken: dict[str, list[float]] = {"ours": [], "theirs": []}
    pins: dict[str, float] = {}
    for number in range(runs):
        for what in sorted(taken, reverse=bool(number % 2)):
            spent, pins[what] = in_a_process(what, signatures, token)
            taken[what].append(signatures / spent)
    rate = {what: statistics.median(each) for what, each in taken.items()}
    for what, name in (("ours", "open_keyring"), ("theirs", "HSMSigner")):
        print(f"{name:<13} {rate[what]:7.0f} signatures/s   {pins[what]:5.0f} PINs")
    ratio = rate["ours"] / rate["theirs"]
    print(f"ratio         {ratio:7.1f}")
    spent, done, asked = in_a_process("threads", signatures, token)
    print(
        f"{THREADS} threads     {done / spent:7.0f} signatures/s   {asked:5.0f} PINs   "
        f"{done:.0f} of {THREADS * signatures} signatures"
    )
    worked, spent = in_a_process("fork", 1, token)
    how = "signs" if worked else "is told so by a typed error"
    print(f"a forked child {how}, after {spent * 1000:.0f} ms")
    all_done = done == THREADS * signatures
    return all_done and asked == pins["ours"] == 1 and ratio >= least


def main() -> int:
    parser = argparse.ArgumentParser(description="P-256 signatures in SoftHSM")
    parser.add_argument("--signatures", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--least", type=float, help="ratio that is good enough")
    parser.add_argument("--work", choices=sorted(WORK), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(*WORK[given.work](given.signatures))
        return 0
    with (
        tempfile.TemporaryDirectory(dir=PLACE) as name,
        soft_token(Path(name), LABEL, pin=PIN) as token,
    ):
        token.make_key("key", id=bytes([KEY_ID]))
        good = measure(given.signatures, given.runs, token, given.least or 0.0)
    return int(given.least is not None and not good)


if __name__ == "__main__":
    raise SystemExit(main())
