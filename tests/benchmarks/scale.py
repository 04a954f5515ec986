"""One more release in a large repository and in a small one.

1,000 applications with 100 releases each against 10 with 10, in turns: what the command
`release publish` costs as a whole process (aim: a ratio of at most 1.5), and what
`authoring.publish` takes inside one.

    python -m tests.benchmarks.scale [--runs 9] [--profile]

`--profile` also prints where the large one spends its time.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import tempfile
import time
from pathlib import Path

from margo_supplychain.authoring.publish import publish
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.testing import artifact_release
from tests.authoring.test_scale import NAME, Cost, Place


def publish_one(place: Place, number: int) -> Cost:
    """Publish one more release in this process; return what it cost."""
    keys = [place._signer("release"), place._signer("online")]
    release = artifact_release(
        place.directory / f"built-here-{number}",
        name=NAME,
        version=f"8.{number}.0",
        content=os.urandom(64),
    )
    begun, used = time.perf_counter(), time.process_time()
    publish(Repository.open(place.directory / "trust"), [release], keys=keys)
    return Cost(time.perf_counter() - begun, time.process_time() - used)


def show(what: str, costs: dict[str, Cost]) -> None:
    base = costs["10 x 10"]
    for kind, cost in costs.items():
        said = (
            f"{field} {mine * 1000:6.1f} ms, ratio {mine / theirs:5.2f}"
            for field, mine, theirs in zip(Cost._fields, cost, base, strict=True)
        )
        print(f"{what:<10} {kind:<11} {'   '.join(said)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of one more release")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        places = {
            "10 x 10": Place(Path(name, "small"), 10, 10),
            "1000 x 100": Place(Path(name, "large"), 1000, 100),
        }
        taken: dict[str, list[Cost]] = {kind: [] for kind in places}
        for number in range(given.runs + 1):
            for kind, place in places.items():
                found = publish_one(place, number)
                if number:  # the first one also imports
                    taken[kind].append(found)
        medians = {
            kind: Cost(*(statistics.median(one) for one in zip(*each, strict=True)))
            for kind, each in taken.items()
        }
        show("in process", medians)
        whole: dict[str, list[Cost]] = {kind: [] for kind in places}
        for number in range(given.runs):
            for kind, place in places.items():
                whole[kind].append(place.publish(number))
        # The least disturbed run of each tells what the work itself costs.
        least = {
            kind: Cost(*(min(one) for one in zip(*each, strict=True)))
            for kind, each in whole.items()
        }
        show("command", least)
        if given.profile:
            with cProfile.Profile() as profile:
                publish_one(places["1000 x 100"], given.runs + 1)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
