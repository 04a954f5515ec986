"""Publishers that are killed, or cut off from their registry, at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import FetchError
from tests.authoring.trust import Vendor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Killed(BaseException):
    """The process is gone; nothing is cleaned up."""


class Stop:
    """Ends a publisher ahead of its request number `at`."""

    def __init__(self, at: int, how: Callable[[], BaseException]) -> None:
        self.at = at
        self.how = how
        self.count = 0
        self.seen = ""

    def __call__(self, what: str) -> None:
        self.count += 1
        if self.count >= self.at:
            self.seen = self.seen or what
            raise self.how()


def killed() -> BaseException:
    return Killed()


def cut_off() -> BaseException:
    return FetchError("no route", url="oci://registry.example", unreachable=True)


def at(copy: Path, original: Vendor) -> Vendor:
    """Return the vendor of a copied directory."""
    return Vendor(copy, clock=original.clock, profile=original.profile)
