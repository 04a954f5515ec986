"""Stories of one repository: honest operations, attacks, and recoveries, by dice.

Who only stands between (`NETWORK`) changes what is served and holds no key; a thief
(`THIEF`) signs with a role's own keys, and what it signed has happened: its version
numbers are taken, and honest people must go on from there.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.attacks.scenes import resign
from tests.world import World
from tests.world.repository import TOP_LEVEL, bound, issued, key

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

APPLICATION = "acme.pump-monitor"
LISTED = ("targets", "acme", APPLICATION)
ONLINE = ("timestamp", "snapshot")


class Story:
    """A world, what it served before, and what is served now."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.world = World(now=datetime.now(UTC).replace(microsecond=0))
        self.world.release("1.0.0")
        self.history = [self.world.publish()]
        self.served = self.world.files.copy()
        self.releases = 1
        self._keys = 0

    def show(self) -> None:
        """Serve what the world holds."""
        self.served = self.world.files.copy()

    def _fresh_key(self, role: str) -> str:
        self._keys += 1
        return f"{role}-{self._keys}"

    def _publish(self) -> None:
        self.history.append(self.world.publish())
        self.show()

    def current(self, role: str) -> str:
        """Return the name of a role's newest file."""
        if role == "timestamp":
            return "timestamp.json"
        return f"{self.world.roles[role].version}.{role}.json"

    def _some_name(self) -> str:
        return self.current(self.dice.choice([*ONLINE, *LISTED]))

    # --- honest ----------------------------------------------------------------------

    def nothing(self) -> None:
        self.show()

    def new_timestamp(self) -> None:
        self.world.publish_timestamp()
        self.history.append(self.world.files.copy())
        self.show()

    def new_release(self) -> None:
        self.releases += 1
        self.world.release(f"1.{self.releases}.0")
        self._publish()

    def sign_anew(self) -> None:
        self.world.touch(*self.dice.sample(LISTED, self.dice.randint(0, 3)))
        self._publish()

    def rotate(self) -> None:
        """New keys for one top-level role, the old ones beside them or gone."""
        role = self.dice.choice(TOP_LEVEL)
        self.world.rotate(
            role, self._fresh_key(role), keep_old=self.dice.random() < 0.3
        )
        if role == "targets":
            self.world.touch("targets")
        self._publish()

    def recover(self, *, new_keys: bool) -> None:
        """Sign everything anew; after a fast-forward, with new keys and from below."""
        if new_keys:
            for role in ("timestamp", "snapshot", "targets"):
                self.world.rotate(role, self._fresh_key(role))
                if self.dice.random() < 0.5:
                    before = json.loads(self.history[0].metadata["timestamp.json"])
                    self.world.roles[role].version = before["signed"]["version"]
        # A root that expired is followed by one that has not.
        self.world.rotate("targets", keep_old=True)
        self.world.touch(*LISTED)
        self._publish()

    # --- without any key -------------------------------------------------------------

    def replay_all(self) -> None:
        self.served = self.dice.choice(self.history).copy()

    def replay_one(self) -> None:
        """One file is an older one of the same role, under the newer name."""
        name = self._some_name()
        role = name.removesuffix(".json").partition(".")[2] or "timestamp"
        older: list[bytes] = [
            data
            for files in self.history
            for other, data in files.metadata.items()
            if other == name or other.partition(".")[2] == f"{role}.json"
        ]
        self._serve(name, self.dice.choice(older))

    def drop(self) -> None:
        self.show()
        self.served.metadata.pop(self._some_name(), None)

    def flip_a_byte(self) -> None:
        name = self._some_name()
        data = bytearray(self.world.files.metadata[name])
        data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
        self._serve(name, bytes(data))

    def cut_short(self) -> None:
        name = self._some_name()
        data = self.world.files.metadata[name]
        self._serve(name, data[: self.dice.randrange(len(data))])

    def strip_signatures(self) -> None:
        name = self._some_name()
        raw = json.loads(self.world.files.metadata[name])
        raw["signatures"] = []
        self._serve(name, json.dumps(raw).encode())

    def sign_with_another_key(self) -> None:
        """The next timestamp, or the next root, by a key that nobody trusts."""
        role = self.dice.choice(["timestamp", "root"])
        name = "timestamp.json"
        if role == "root":
            name = f"{self.world.root.version + 1}.root.json"

        def change(signed: dict[str, Any]) -> None:
            signed["version"] += 1

        data = self.world.files.metadata[self.current(role)]
        self._serve(name, resign(data, [key("mallory")], change))

    def skip_a_root(self) -> None:
        """Two roots follow; the second is served in place of the first."""
        first = self.world.root.version + 1
        for _ in range(2):
            self.world.rotate("timestamp", self._fresh_key("timestamp"))
        self._publish()
        newest = self.world.files.metadata[f"{first + 1}.root.json"]
        self._serve(f"{first}.root.json", newest)

    def _serve(self, name: str, data: bytes) -> None:
        self.show()
        self.served.metadata[name] = data

    # --- with a role's own keys ------------------------------------------------------

    def expire(self) -> None:
        role = self.dice.choice([*ONLINE, *LISTED])
        if role not in ONLINE:
            self.world.touch(role)
        self.world.publish(days={role: -1})
        self.show()

    def expire_root(self) -> None:
        self.world.rotate("targets", keep_old=True)
        self.world.root.expires = self.world.clock.when - timedelta(days=1)
        self.world.files.metadata[self.current("root")] = self.world.sign("root")
        self.show()

    def raise_a_version(self) -> None:
        role = self.dice.choice([*ONLINE, *LISTED])
        self.world.roles[role].version += 1000
        if role not in ONLINE:
            self.world.touch(role)
        self.world.publish()
        self.show()

    def unlist_a_role(self) -> None:
        del self.world.roles["snapshot"].meta[f"{self.dice.choice(LISTED)}.json"]
        self.world.publish_online()
        self.show()

    def list_an_older_role(self) -> None:
        role = self.dice.choice(LISTED)
        self._relist(role, self._older(role))
        self.world.publish_online()
        self.show()

    def list_an_older_snapshot(self) -> None:
        self._announce(self._older("snapshot"))

    def lower_the_snapshot_after_a_rotation(self) -> None:
        """Timestamp's keys are new, so its floors fell; the snapshot's own did not."""
        self.world.rotate("timestamp", self._fresh_key("timestamp"))
        snapshot = self.world.roles["snapshot"]
        snapshot.version -= 1
        data = self.world.sign("snapshot")
        snapshot.version += 1
        self._announce((snapshot.version - 1, data))

    def sign_a_version_twice(self) -> None:
        """Other content under the version that everybody has."""
        role = self.dice.choice([*ONLINE, *LISTED])
        signed = self.world.roles[role]
        signed.expires += timedelta(hours=1)
        data = self.world.sign(role)
        if role == "timestamp":
            self.world.files.metadata["timestamp.json"] = data
        else:
            self.world.write(role, data)
        if role == "snapshot":
            self.world.publish_timestamp()
        elif role in LISTED:
            self.world.publish_online()
        self.show()

    def sign_in_the_future(self) -> None:
        self.world.publish_online()
        timestamp = self.world.roles["timestamp"]
        late = self.world.clock.when + timedelta(days=self.dice.choice([20, 400, 9000]))
        timestamp.unrecognized_fields["x-issued"] = issued(late)
        timestamp.expires = late + timedelta(days=1)
        self.world.files.metadata["timestamp.json"] = self.world.sign("timestamp")
        self.show()

    def list_without_hashes(self) -> None:
        entry = self.world.roles["snapshot"].meta["targets.json"]
        entry.hashes = entry.length = None
        self.world.publish_online()
        self.show()

    def _older(self, role: str) -> tuple[int, bytes]:
        found = {
            int(name.partition(".")[0]): data
            for files in self.history
            for name, data in files.metadata.items()
            if name.partition(".")[2] == f"{role}.json"
        }
        # After a recovery from below, what was served before is not always older.
        newest = self.world.roles[role].version
        version = self.dice.choice(sorted(one for one in found if one <= newest))
        return version, found[version]

    def _relist(self, role: str, older: tuple[int, bytes]) -> None:
        version, data = older
        self.world.files.metadata[f"{version}.{role}.json"] = data
        self.world.roles["snapshot"].meta[f"{role}.json"] = bound(version, data)

    def _announce(self, older: tuple[int, bytes]) -> None:
        version, data = older
        self.world.files.metadata[f"{version}.snapshot.json"] = data
        self.world.bump("timestamp", 4)
        self.world.roles["timestamp"].snapshot_meta = bound(version, data)
        self.world.files.metadata["timestamp.json"] = self.world.sign("timestamp")
        self.show()


HONEST: tuple[Callable[[Story], None], ...] = (
    Story.nothing,
    Story.new_timestamp,
    Story.new_release,
    Story.sign_anew,
    Story.rotate,
)
NETWORK: tuple[Callable[[Story], None], ...] = (
    Story.replay_all,
    Story.replay_one,
    Story.drop,
    Story.flip_a_byte,
    Story.cut_short,
    Story.strip_signatures,
    Story.sign_with_another_key,
    Story.skip_a_root,
)
THIEF: tuple[Callable[[Story], None], ...] = (
    Story.expire,
    Story.expire_root,
    Story.raise_a_version,
    Story.unlist_a_role,
    Story.list_an_older_role,
    Story.list_an_older_snapshot,
    Story.lower_the_snapshot_after_a_rotation,
    Story.sign_a_version_twice,
    Story.sign_in_the_future,
    Story.list_without_hashes,
)
