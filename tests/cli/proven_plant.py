"""A plant whose vendor demands provenance, as the command line sees it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule, PublisherPolicy
from margo_supplychain.formats.times import format_time
from tests.cli.plant import APPLICATION, Plant, now
from tests.world.provenance import ENVELOPE, Run, envelope, layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.world.provenance import Document

PUMP: Final = ReleaseName.parse(APPLICATION)


class Proven(Plant):
    """A plant whose vendor demands three steps by three functionaries."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.world.add_application(APPLICATION)
        expires = format_time(now() + timedelta(days=400))
        data = envelope(layout(expires=expires), "acme")
        self.world.add_target("acme", PUMP.layout_path(2), data)
        rule = LayoutRule(
            number=2,
            digest=Descriptor.of(data, ENVELOPE).digest,
            range=Pin.range("*", grammar="npm"),
        )
        self.demand(layouts=(rule,))

    def demand(self, **changes: Any) -> None:
        """Let the publisher's offline key demand something."""
        before = self.world.policies.get(PUMP)
        base = before or PublisherPolicy(epoch=1, provenance="required")
        made = replace(base, **{"provenance": "required", **changes})
        self.world.set_policy(APPLICATION, made)

    def made(self, version: str) -> Run:
        return Run(version, self.world.artifact(f"{APPLICATION} {version}".encode()))

    def release_of(
        self,
        run: Run,
        documents: Iterable[Document] | None = None,
        *,
        layout: int | None = 2,
    ) -> None:
        """List a release with the links of a run, or with these documents."""
        named = list(run.documents().values() if documents is None else documents)
        for one in named:
            self.world.add_blob(one.data, ENVELOPE)
        record = replace(
            self.world.record(PUMP, run.version, run.artifact),
            layout=layout,
            attestations=tuple(one.reference() for one in named),
        )
        self.world.list_record(PUMP.role, record)
        self.publish()
