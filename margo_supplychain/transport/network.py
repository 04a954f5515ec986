"""How long and how often the network is tried.

Each limit may be changed; none can be removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Limits of one source; times in seconds.

    Args:
        connect_timeout: to reach the server.
        read_timeout: without a single byte.
        response_timeout: for one answer: from looking its server up to the last header.
        deadline: for one file, everything together.
        minimum_rate: bytes per second, over each `rate_window` of waiting after the
            first answer.
        rate_window: how long a slow stretch is borne.
        tries: attempts without progress, the first included; progress is the minimum
            rate, pauses included.
        longest_delay: a server that asks for a longer pause is not asked again.
        redirects: how many in a row are followed.
        ca_file: certificates to trust instead of the system's.

    Raises:
        ValueError: a limit that limits nothing, or lets nothing pass.
    """

    connect_timeout: float = 10
    read_timeout: float = 60
    response_timeout: float = 60
    deadline: float = 6 * 3600
    minimum_rate: int = 1024
    rate_window: float = 30
    tries: int = 5
    longest_delay: float = 30
    redirects: int = 5
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout",
            "read_timeout",
            "response_timeout",
            "deadline",
            "minimum_rate",
            "rate_window",
            "tries",
        ):
            value = getattr(self, name)
            if not isfinite(value) or value <= 0:
                raise ValueError(f"{name} is {value}, expected a number above 0")
        if not isfinite(self.longest_delay) or self.longest_delay < 0:
            raise ValueError(
                f"longest_delay is {self.longest_delay}, expected 0 or more"
            )
        if not 0 <= self.redirects <= 20:
            raise ValueError(f"redirects is {self.redirects}, expected 0 to 20")


DEFAULT_NETWORK: Final = Network()
