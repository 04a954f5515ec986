"""A plant whose vendor demands provenance, and what all attacks on it end with.

Mallory holds the registry, the online keys (the application's, `snapshot`'s and
`timestamp`'s) and the key of one functionary; never an offline key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from margo_supplychain.errors import AttestationError, ProvenanceError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule
from margo_supplychain.formats.release_entry import AttestationPin, ReleaseEntry
from margo_supplychain.verify.trust_store import MEMORY_FILES
from tests.attacks.scenes import contents
from tests.attacks.standing import require_true_names, stands
from tests.world import World
from tests.world.provenance import (
    ENVELOPE,
    FUNCTIONARIES,
    Document,
    Run,
    envelope,
    keyid,
    layout,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.record import ReleaseRecord
    from tests.world import Device

E = TypeVar("E", bound="SupplyChainError")

NAME: Final = "acme/pump-monitor"
PUMP: Final = ReleaseName.parse(NAME)
ANY: Final = Pin.range("*", grammar="npm")
MONTH: Final = timedelta(days=30)
PROVEN: Final = b'[policy."*/*"]\nrequire = ["signed", "provenance"]\n'


@dataclass(slots=True)
class Plant:
    """A device that runs a proven 1.0.0, and the repository that it asks."""

    world: World
    device: Device
    kept: TemporaryDirectory[str] | None = None

    # --- the vendor's offline key ----------------------------------------------------

    def policy(self, **changes: Any) -> None:
        """Change the publisher's policy, with the offline key."""
        self.world.set_policy(NAME, replace(self.world.policies[PUMP], **changes))

    def add_layout(self, number: int, data: bytes) -> Descriptor:
        """List a layout in the offline role; whether the policy names it or not."""
        self.world.add_target("acme", PUMP.layout_path(number), data)
        return Descriptor.of(data, ENVELOPE)

    def use_layout(self, said: object, **rule: Any) -> None:
        """Let another layout serve all versions, as number 1."""
        data = said if isinstance(said, bytes) else envelope(said, "acme")
        what = self.add_layout(1, data)
        self.policy(layouts=(current(1, what, **rule),))

    def layout_file(self, number: int) -> bytes:
        """Return a layout's envelope as it is listed."""
        path = PUMP.layout_path(number)
        listed = self.world.roles["acme"].targets[path].hashes["sha256"]
        return self.world.files.targets[path, listed]

    # --- what the online key says ----------------------------------------------------

    def run(self, version: str) -> Run:
        """Return an honest run of the pipeline."""
        content = f"{NAME} {version}".encode()
        return Run(version, self.world.artifact(content))

    def record(
        self,
        run: Run,
        documents: Iterable[Document],
        *,
        number: int | None = 1,
        **changes: Any,
    ) -> ReleaseRecord:
        """Return the record of a run that names these documents.

        Args:
            run: what was made.
            documents: served, too.
            number: the layout that the record names.
            changes: fields of the record that say something else.
        """
        named = list(documents)
        for one in named:
            self.world.add_blob(one.data, ENVELOPE)
        return replace(
            self.world.record(PUMP, run.version, run.artifact),
            layout=number,
            **{"attestations": tuple(one.reference() for one in named), **changes},
        )

    def publish(
        self,
        run: Run,
        documents: Iterable[Document] | None = None,
        *,
        summaries: Iterable[bytes] = (),
        **record: Any,
    ) -> None:
        """List a release with these documents, and serve everything.

        Args:
            run: what was made.
            documents: what its record names; the links of the run by default.
            summaries: envelopes that the entry names.
            record: what else the record says.
        """
        if documents is None:
            documents = run.documents().values()
        made = self.record(run, documents, **record)
        entry = self._entry(made.entry(), summaries)
        self.world.list_record(PUMP.role, made, entry=entry)
        self.serve()

    def _entry(self, entry: ReleaseEntry, summaries: Iterable[bytes]) -> ReleaseEntry:
        pins = []
        for data in summaries:
            what = self.world.add_blob(data, ENVELOPE)
            pins.append(AttestationPin(digest=what.digest, size=what.size))
        return replace(entry, summaries=tuple(pins)) if pins else entry

    def serve(self) -> None:
        """Let the device see what was signed."""
        self.device.source.files = self.world.publish()

    def forget_copies(self) -> None:
        """Let the device lose its copies of what it fetched, as a new one has none."""
        for path in self.copies():
            path.unlink()

    def copies(self) -> list[Path]:
        """Return the device's copies of target files and envelopes."""
        kept = (self.device.state / name for name in ("targets", "attestations"))
        return [path for place in kept for path in place.iterdir()]

    # --- beats -----------------------------------------------------------------------

    def verified(self, version: str, tier: str = "full") -> None:
        """Expect that the device takes this version, and by which proof."""
        release = self.device.verify()
        assert str(release.version) == version
        facts = next(one for one in release.report.steps if one.number == 4).facts
        assert facts["provenance"] == tier

    def refused(
        self, reason: str, match: str, *, newer: bool = True
    ) -> ProvenanceError:
        """Expect that the release is not proven, and that nothing moved."""
        return self.refused_by(ProvenanceError, match, reason=reason, newer=newer)

    def unattested(
        self, reason: str, match: str, *, newer: bool = True
    ) -> AttestationError:
        """Expect that a statement does not say enough, and that nothing moved."""
        return self.refused_by(AttestationError, match, reason=reason, newer=newer)

    def refused_by(
        self,
        kind: type[E],
        match: str,
        *,
        reason: str | None = None,
        newer: bool = True,
        call: Callable[[], object] | None = None,
    ) -> E:
        """Expect an error, and that nothing moved; return it.

        Asked a second time, not a byte of the memory changes in any case.

        Args:
            kind: exactly this class.
            match: found in its text.
            reason: the error's; None for one that has none.
            newer: the attack came with newer validly signed metadata, which the device
                may keep; else not a byte of its memory may change.
            call: what the device does; `verify`, then `fetch` by default.
        """
        device = self.device
        before, content = stands(device), contents(device)
        errors = []
        memory = None if newer else remembered(device)
        for ask in (call or device.verify, call or device.fetch):
            with pytest.raises(kind, match=match) as caught:
                ask()
            assert type(caught.value) is kind
            assert caught.value.code == kind.code
            assert getattr(caught.value, "reason", None) == reason
            assert caught.value.report is not None
            assert caught.value.report.verdict != "verified"
            assert stands(device) == before
            assert contents(device) == content
            if memory is not None:
                assert remembered(device) == memory
            memory = remembered(device)
            errors.append(caught.value)
        require_true_names(device)
        return errors[0]


def remembered(device: Device) -> dict[str, bytes]:
    """Return the memory's files as they lie on disk."""
    return {name: (device.state / name).read_bytes() for name in MEMORY_FILES}


def current(number: int, what: Descriptor, **rule: Any) -> LayoutRule:
    """Return a rule by which a layout serves versions; all of them by default."""
    return LayoutRule(number=number, digest=what.digest, **{"range": ANY, **rule})


def two_builders(plant: Plant, *, threshold: int) -> None:
    """Let two builders have the step `build`."""
    found = steps()
    found[0]["pubkeys"] = [keyid("builder"), keyid("builder-b")]
    found[0]["threshold"] = threshold
    functionaries = (*FUNCTIONARIES, "builder-b")
    plant.use_layout(layout(found, functionaries=functionaries))


def running(tmp_path: Path) -> Plant:
    """Return a plant in its legitimate state: the device runs a proven 1.0.0."""
    plant = _first_plant()
    device = plant.device.copy(tmp_path / "device")
    return Plant(plant.world.copy(), device)


@cache
def _first_plant() -> Plant:
    # Built once in a test run: what differs between attacks is what comes after it.
    state = TemporaryDirectory(prefix="proven-")
    world = World()
    world.add_application(NAME)
    plant = Plant(world, world.device(Path(state.name) / "device"), state)
    plant.use_layout(layout())
    plant.policy(provenance="required")
    plant.publish(plant.run("1.0.0"))
    plant.verified("1.0.0")
    assert plant.device.install() == "1.0.0"
    return plant
