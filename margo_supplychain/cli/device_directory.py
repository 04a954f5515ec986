"""A device's directory: `device.toml`, and one trust store per repository beside it.

    device.toml        the owner's: sources, policy, mirrors and registries
    stores/<name>/     what the device remembers of a repository (verify.TrustStore)

Finds the one store that may speak for a publisher, and makes verifiers. Nothing here is
trusted because it lies here: sources are untrusted, and a store judges its own bytes.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.cli.device_settings import (
    FILE_NAME,
    DeviceSettings,
    Locations,
    is_repository_name,
    parse_policy,
    read_settings,
)
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.registry_settings import (
    check_files,
    local_path,
    open_keys,
)
from margo_supplychain.errors import (
    AmbiguousRoleError,
    FormatError,
    StateLostError,
    UnknownTargetError,
)
from margo_supplychain.verify.policy import LIMIT, Policy
from margo_supplychain.verify.trust_store import TrustStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.cli.device_watch import Watch
    from margo_supplychain.transport.protocols import ContentSources, Source
    from margo_supplychain.verify.memory import FetchedRelease
    from margo_supplychain.verify.verifier import Verifier

STORES: Final = "stores"
_INIT: Final = "margo-supplychain device init --root FILE --source URL --publisher"


@final
class DeviceDirectory:
    """A device's directory; `device init` makes it.

    Args:
        directory: what `--state` names.
        watch: sees whom is asked.
    """

    def __init__(self, directory: Path, watch: Watch | None = None) -> None:
        self.directory = directory
        self.file = directory / FILE_NAME
        self._watch = watch
        self._sources: dict[str, Source] = {}

    @cached_property
    def settings(self) -> DeviceSettings:
        """What `device.toml` says.

        Raises:
            StateLostError, FormatError, StorageError: see `read_settings`.
        """
        return read_settings(self.file)

    def names(self) -> tuple[str, ...]:
        """Return every repository that has a store here, or should have one."""
        named = self.settings.repositories.keys()
        stores = self.directory / STORES
        if not stores.is_dir():
            return tuple(sorted(named))
        found = {one.name for one in stores.iterdir() if is_repository_name(one.name)}
        return tuple(sorted(found | named))

    def store(self, name: str) -> TrustStore:
        """Open the store of one repository.

        Raises:
            StateLostError: it is not there, or can't be read any more.
        """
        place = self.directory / STORES / name
        try:
            return TrustStore.open(place)
        except StateLostError as why:
            why.hint = (
                f"bring it back from a backup; or remove {place} and run "
                "margo-supplychain device init with a root that arrives out of band: "
                "what the lost memory barred is no longer known"
            )
            raise

    def store_of(self, publisher: str) -> tuple[str, TrustStore]:
        """Return the one store that may speak for a publisher, and its name.

        Raises:
            UnknownTargetError: none does.
            AmbiguousRoleError: two do, as only a copied store can.
            StateLostError: a store that might is lost.
        """
        claims: list[tuple[str, TrustStore]] = []
        lost: list[StateLostError] = []
        for name in self.names():
            try:
                store = self.store(name)
            except StateLostError as why:
                lost.append(why)
                continue
            if publisher in store.publishers:
                claims.append((name, store))
        if len(claims) > 1:
            names = tuple(name for name, _ in claims)
            raise AmbiguousRoleError(
                f"publisher {publisher} is claimed by two stores, "
                f"{' and '.join(names[:2])}",
                name=publisher,
                roles=names,
                hint=f"one repository speaks for a publisher: keep one below "
                f"{self.directory / STORES}",
            )
        if claims:
            return claims[0]
        if lost:
            raise lost[0]
        raise UnknownTargetError(
            f"no store in {self.directory} speaks for the publisher {publisher}",
            name=publisher,
            hint=f"to trust one, with a root that arrived out of band: {_INIT} "
            f"{publisher}",
        )

    def fetched(self, wanted: str) -> tuple[str, TrustStore, FetchedRelease]:
        """Return the newest fetched release of a name or digest, and whose it is.

        Args:
            wanted: `acme/pump-monitor` or `sha256:…`.

        Raises:
            UnknownTargetError: this device fetched none.
        """
        found: list[tuple[str, TrustStore, FetchedRelease]] = []
        for name in self.names():
            store = self.store(name)
            found.extend(
                (name, store, one)
                for one in store.status().fetched
                if wanted in (str(one.name), str(one.artifact))
            )
        if not found:
            raise UnknownTargetError(
                f"{wanted} was not fetched by this device",
                name=wanted,
                hint="fetch it first: only what was fetched whole can be confirmed; "
                "`margo-supplychain device status` lists it",
            )
        return found[-1]

    def source(self, name: str, given: str | None) -> Source:
        """Return where a repository's metadata comes from.

        Args:
            name: the repository.
            given: what the command line says instead of the file.

        Raises:
            FormatError: the repository has no source, or the one that is given is not
                there; a file that `device.toml` names can't be used.
        """
        check_files(self.settings.registries.network, str(self.file))
        source = self._opened(self._where(name, given))
        return source if self._watch is None else self._watch.source(source)

    def verifier(
        self,
        name: str,
        store: TrustStore,
        *,
        source: str | None = None,
        policy: Path | None = None,
    ) -> Verifier:
        """Return a verifier over one repository.

        Args:
            name: the repository.
            store: its store.
            source: instead of the one in `device.toml`.
            policy: a file instead of `device.toml`.

        Raises:
            FormatError: the repository has no source, or a file is not what it should
                be.
        """
        from margo_supplychain.verify.verifier import Verifier

        where = self._where(name, source)
        metadata = self._opened(where)
        content = self._content(name, where, metadata, given=bool(source))
        watch = self._watch
        return Verifier(
            store=store,
            source=metadata if watch is None else watch.source(metadata),
            content=content if watch is None else watch.content(content),
            policy=self.policy(policy),
        )

    def asked(self, name: str, given: str | None) -> tuple[str, ...]:
        """Return where a repository's metadata is asked for, best first."""
        where = given or self._locations(name).source
        return self.settings.registries.mirrors.places(where)

    def note_keys(self, note: Callable[[str], None]) -> None:
        """Say which private keys of client certificates lie open."""
        _, network = self.settings.registries
        for path in open_keys(network):
            note(f"{path} is a private key that others may read: chmod 600 {path}")

    def _where(self, name: str, given: str | None) -> str:
        """Return where a repository is, as a person or the file says."""
        if given is None:
            return self._locations(name).source
        path = local_path(given)
        # A typing mistake must not be decided around, on copies and by other places.
        if path is not None and not os.path.lexists(path):
            raise FormatError(
                f"--source {given[:160]} does not exist",
                where=given,
                hint="name a repository that is there, or leave it out: device.toml "
                "says where it is",
            )
        return given

    def _opened(self, where: str) -> Source:
        from margo_supplychain.transport.mirrors import open_mirrored_source

        # Once: who answered is known to whoever asks for its name.
        if where not in self._sources:
            mirrors, network = self.settings.registries
            self._sources[where] = open_mirrored_source(where, mirrors, network=network)
        return self._sources[where]

    def _content(
        self, name: str, where: str, metadata: Source, *, given: bool
    ) -> ContentSources:
        """Return where content is looked for.

        Args:
            name: the repository.
            where: its source.
            metadata: the same, opened.
            given: whether the source was typed, and so comes before all others.
        """
        from margo_supplychain.transport.mirrors import MirroredContent
        from margo_supplychain.transport.opening import FixedContent, open_source

        known = self.settings.repositories.get(name)
        mirrors, network = self.settings.registries
        if known is not None and known.content:
            named = [open_source(one, network=network) for one in known.content]
            return FixedContent([metadata, *named] if given else named)
        # Files beside the metadata cost nothing to look at, and nobody else is asked
        # for what is there. A registry keeps content in repositories of its own.
        beside = not where.startswith("oci:")
        return MirroredContent(
            mirrors,
            network=network,
            before=[metadata] if beside else [],
            always=[] if beside else [metadata],
        )

    def policy(self, given: Path | None) -> Policy:
        """Return the owner's policy, from `device.toml` or the file that is given.

        Raises:
            FormatError: it is none.
        """
        if given is None:
            return parse_policy(self.settings.data, self.file)
        data = read_named(given, limit=LIMIT, what="a policy")
        return parse_policy(data, given)

    def _locations(self, name: str) -> Locations:
        found = self.settings.repositories.get(name)
        if found is None:
            raise FormatError(
                f"{self.file} has no [repository.{name}], so the store {name} has no "
                "source",
                where=str(self.file),
                hint="write one, or say it with --source",
            )
        return found
