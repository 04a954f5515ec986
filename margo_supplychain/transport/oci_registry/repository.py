"""One repository of one registry: manifests, blobs, tags and referrers.

Unverified bytes within limits. What is asked for by its digest is compared with it
where the whole is in memory; who streams a blob compares it himself. Headers are hints.

Example:
    >>> trust = RegistryRepository(
    ...     RegistryReference.parse("oci://registry.example/acme/trust"),
    ...     network=Network())
    >>> data, media_type = trust.manifest("timestamp")
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    OciFormatError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.closure import is_manifest
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MAX_MANIFEST, Entry, Index
from margo_supplychain.formats.references import (
    SCHEME,
    RegistryReference,
    registry_tag,
    repository_name,
)
from margo_supplychain.formats.registry_form import TIMESTAMP_TAG
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.transport.oci_registry.answers import (
    check_digest_header,
    delete_failure,
    failure,
    hint_of,
    is_absent,
    push_failure,
)
from margo_supplychain.transport.oci_registry.authorization import Access
from margo_supplychain.transport.oci_registry.client import registry_client
from margo_supplychain.transport.oci_registry.lists import list_tags
from margo_supplychain.transport.oci_registry.referrers import Referrers, digest_of
from margo_supplychain.transport.oci_registry.uploads import Upload, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from margo_supplychain.transport.exchange import Answer
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.oci_registry.tokens import Tick

_ACCEPT: Final = {
    "Accept": f"{oci.MANIFEST}, {oci.INDEX}, {oci.DOCKER_MANIFEST}, {oci.DOCKER_INDEX}"
}
_ACCEPT_BLOB: Final = {"Accept": "*/*"}
_DONE: Final = frozenset({200, 201, 204})
_MOST_DIGITS: Final = 40  # of a header's Content-Length, leading zeros and all


class RegistryRepository:
    """Unverified content of one repository of a registry; thread-safe.

    Nothing is asked for before it is needed.

    Args:
        reference: of the repository; its tag and digest are not looked at.
        network: the limits, how registries are reached, and Docker's configuration.
    """

    def __init__(self, reference: RegistryReference, *, network: Network) -> None:
        self._reference = reference
        self._network = network
        self._client = registry_client(reference.host, network=network)
        self._base = f"{self._client.origin}/v2/{reference.path}"
        self._pull = Access(reference.path, "pull")
        self._push = Access(reference.path, "pull,push")
        self._delete = Access(reference.path, "delete")
        self._referrers = Referrers(self, self._client, self._pull)

    @property
    def url(self) -> str:
        """The repository: `oci://host/path`."""
        return self._reference.repository

    # --- pull ------------------------------------------------------------------------

    def manifest(
        self, reference: str, *, limit: int = MAX_MANIFEST, tick: Tick = None
    ) -> tuple[bytes, str]:
        """Return a manifest's exact bytes, and what the registry says that they are.

        Args:
            reference: a tag, or a digest, with which the bytes are compared.
            limit: most bytes; never above 4 MiB.
            tick: called with the size of each piece, and with 0 while waiting.

        Raises:
            OciFormatError: the reference is none.
            FetchError: no answer, another, or `missing`.
            TooLargeError: above the limit.
            DigestMismatchError: not the bytes that were asked for.
        """
        what = self._named(reference)
        answer = self._client.ask(
            "GET",
            f"{self._base}/manifests/{reference}",
            self._pull,
            headers=_ACCEPT,
            limit=min(limit, MAX_MANIFEST),
            tick=tick,
        )
        if answer.status != 200:
            raise self._failure(answer, what)
        if ":" in reference:
            self._compare(answer.body, Digest.parse(reference), what)
        check_digest_header(answer, Digest.of(answer.body), what=what)
        return answer.body, answer.headers.get("Content-Type", "").strip()[:255]

    def head_manifest(self, reference: str) -> Digest | None:
        """Return the digest that a tag or digest has according to the registry.

        None if there is no such manifest. A hint only: nothing was read.

        Raises:
            OciFormatError: the reference is none.
            FetchError: no answer, or another.
        """
        what = self._named(reference)
        url = f"{self._base}/manifests/{reference}"
        answer = self._client.ask("HEAD", url, self._pull, headers=_ACCEPT)
        if is_absent(answer):
            return None
        if answer.status != 200:
            raise self._failure(answer, what)
        try:
            return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except OciFormatError:
            # Not every registry says it.
            return Digest.of(self.manifest(reference)[0])

    @contextmanager
    def open_blob(
        self, what: Descriptor, *, start: int = 0, tick: Tick = None
    ) -> Iterator[BinaryIO]:
        """Open a blob or manifest from byte `start`; see `Source.blob`."""
        if start and start >= what.size:
            # Nothing is left, and a range that begins at the end is refused (416).
            yield io.BytesIO()
            return
        transfer = self._client.transfer(
            self._url_of(what),
            self._pull,
            start=start,
            size=what.size,
            headers=_accept(what),
            tick=tick,
        )

        def read_into(buffer: memoryview) -> int:
            try:
                return transfer.read_into(buffer)
            except FetchError as why:
                self._explain(why)

        try:
            try:
                transfer.begin()
            except FetchError as why:
                self._explain(why)
            self._client.remember(what.digest, self._reference.path)
            name = self._named(str(what.digest))
            yield BoundedStream(read_into, left=what.size - start, url=name).as_binary()
        finally:
            transfer.close()

    def has_blob(self, what: Descriptor) -> bool:
        """Say whether a blob or manifest is there according to the registry.

        Raises:
            FetchError: no answer, or another.
        """
        headers = _ACCEPT if is_manifest(what) else {"Accept": "*/*"}
        answer = self._client.ask(
            "HEAD", self._url_of(what), self._pull, headers=headers
        )
        if is_absent(answer):
            return False
        if answer.status != 200:
            raise self._failure(answer, self._named(str(what.digest)))
        size = answer.headers.get("Content-Length", "")
        if not size.isascii() or not size.isdigit():
            return True
        # No number of so many digits is a size, and int() refuses thousands of them.
        return len(size) <= _MOST_DIGITS and int(size) == what.size

    # --- push ------------------------------------------------------------------------

    def put_blob(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        mount_from: Sequence[str] = (),
        tick: Tick = None,
    ) -> bool:
        """Store a blob, unless it is there; True if its bytes travelled.

        Args:
            what: its digest and size; the bytes are compared with it as they leave.
            data: read from where it stands. If it seeks, a broken upload is resumed.
            mount_from: other repositories (`oci://host/path`, or the path alone) that
                may hold it; those of other registries are not looked at. Left out, the
                one that was last seen to have it.
            tick: called with how many bytes have left, and with 0 while waiting.

        Raises:
            LengthMismatchError, DigestMismatchError: the data is something else.
            FetchError, RefusedError: the registry does not take it.
            ValueError: a manifest, which `put_manifest` takes.
        """
        if is_manifest(what):
            raise ValueError(f"{what.digest} is a manifest, not a blob")
        others = mount_from or self._client.holders(what.digest)
        travels = not self.has_blob(what) and self._send(what, data, others, tick)
        self._client.remember(what.digest, self._reference.path)
        return travels

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        """Store a manifest or index under its digest, or under a tag that moves to it.

        Where the registry does not list what refers to a subject, the subject's own
        tag is made to list it (distribution-spec, referrers tag schema).

        Args:
            data: its exact bytes.
            media_type: of them.
            tag: if it is to have one.

        Raises:
            OciFormatError: no manifest that could be read again.
            ManifestRefusedError: no manifest of this form is taken.
            RefusedError: the registry's settings forbid it; names them.
            FetchError: no answer, or another.
        """
        found = oci.parse_manifest(data)
        if found.media_type != media_type:
            raise OciFormatError(f"manifest is {found.media_type}, not {media_type}")
        digest = Digest.of(data)
        reference = str(digest) if tag is None else registry_tag(tag)
        answer = self._put(data, media_type, reference, digest)
        if found.subject is not None and "OCI-Subject" not in answer.headers:
            kind = found.artifact_type
            if kind is None and not isinstance(found, Index):
                kind = found.config.media_type
            entry = Entry(
                descriptor=Descriptor(
                    media_type=media_type, digest=digest, size=len(data)
                ),
                artifact_type=kind,
                annotations=found.annotations,
            )
            self._referrers.add(found.subject.digest, entry)
        return digest

    def has_referrers(self, subject: Digest) -> bool:
        """Say whether the registry has the referrers API; see `Refers`."""
        return self._referrers.has_api(subject, self._named(str(subject)))

    def put_referrer(self, data: bytes, media_type: str) -> Digest:
        """Store a manifest that has a subject under its digest; see `Refers`.

        The tag that stands in for the API is not written: who has none is not asked.

        Raises:
            OciFormatError: no manifest with a subject.
            ManifestRefusedError, RefusedError, FetchError: as `put_manifest`.
        """
        found = oci.parse_manifest(data)
        if found.media_type != media_type or found.subject is None:
            raise OciFormatError(f"{found.media_type} manifest refers to nothing")
        digest = Digest.of(data)
        self._put(data, media_type, str(digest), digest)
        return digest

    def _put(
        self, data: bytes, media_type: str, reference: str, digest: Digest
    ) -> Answer:
        what = self._named(reference)
        is_second = False
        # The one tag that moves: a second request could come when somebody else has
        # moved it. Whoever got no answer looks first, and then decides.
        repeat = False if reference == TIMESTAMP_TAG else None
        while True:
            answer = self._client.ask(
                "PUT",
                f"{self._base}/manifests/{reference}",
                self._push,
                body=data,
                headers={"Content-Type": media_type},
                repeat=repeat,
            )
            if answer.status not in _DONE:
                raise push_failure(answer, host=self._client.host, what=what)
            try:
                check_digest_header(answer, digest, what=what)
            except FetchError:
                # What a proxy has changed on the way stands under our tag: put the
                # right bytes there, once.
                if is_second:
                    raise
                is_second = True
            else:
                return answer

    def delete_manifest(self, digest: Digest) -> None:
        """Delete a manifest and all its tags; one that is not there is fine.

        Raises:
            RefusedError: the registry's settings forbid it; names them.
            FetchError: no answer, or another.
        """
        url = f"{self._base}/manifests/{digest}"
        answer = self._client.ask("DELETE", url, self._delete)
        if answer.status not in {200, 202, 204} and not is_absent(answer):
            name = self._named(str(digest))
            raise delete_failure(answer, host=self._client.host, what=name)

    # --- lists -----------------------------------------------------------------------

    def tags(self, *, most: int = 10_000) -> Iterator[str]:
        """Yield the tags, each once, as the registry lists them.

        Raises:
            FetchError: no list; `missing` if there is no such repository.
            TooLargeError: there are more than `most`.
        """
        return list_tags(self._client, self._pull, name=self.url, most=most)

    def referrers(
        self, digest: Digest, *, artifact_type: str | None = None, most: int = 1000
    ) -> tuple[Entry, ...]:
        """Return what refers to a manifest, according to the registry.

        Asks the referrers API, or else the tag that stands in for it.

        Raises:
            FetchError: no answer, or another.
            TooLargeError: there are more than `most`.
        """
        name = self._named(str(digest))
        return self._referrers.of(digest, name, artifact_type=artifact_type, most=most)

    # --- parts -----------------------------------------------------------------------

    def _send(
        self, what: Descriptor, data: BinaryIO, mount_from: Sequence[str], tick: Tick
    ) -> bool:
        """Mount a blob or send it; True if its bytes travelled."""
        access, opened = self._opened(what, mount_from, tick)
        if opened is None:
            return False
        Upload(
            self._client,
            access,
            begin=lambda: self._begin_upload(access, tick),
            is_there=lambda: self.has_blob(what),
            what=what,
            data=data,
            name=self._named(str(what.digest)),
            network=self._network,
            tick=tick,
        ).send(opened)
        return True

    def _opened(
        self, what: Descriptor, mount_from: Sequence[str], tick: Tick
    ) -> tuple[Access, Answer | None]:
        """Return an open session, or None when the blob was mounted instead."""
        other = self._holder(what, mount_from)
        if other is None:
            return self._push, self._begin_upload(self._push, tick)
        access = Access(self._reference.path, "pull,push", mounted=other)
        query = f"?mount={what.digest}&from={other}"
        answer = self._begin_upload(access, tick, query=query)
        return access, None if answer.status == 201 else answer

    def _holder(self, what: Descriptor, mount_from: Sequence[str]) -> str | None:
        for text in mount_from:
            path = text
            if text.startswith(SCHEME):
                found = RegistryReference.parse(text)
                if found.host != self._reference.host:
                    continue
                path = found.path
            if path == self._reference.path:
                continue
            other = RegistryReference(self._reference.host, repository_name(path))
            try:
                if RegistryRepository(other, network=self._network).has_blob(what):
                    return path
            except FetchError as why:
                if why.status not in {401, 403}:
                    raise
        return None

    def _begin_upload(self, access: Access, tick: Tick, *, query: str = "") -> Answer:
        answer = self._client.ask(
            "POST",
            f"{self._base}/blobs/uploads/{query}",
            access,
            body=b"",
            # A session that nobody uses is all that a second one leaves.
            repeat=True,
            tick=waiting(tick),
        )
        if answer.status != 202 and not (query and answer.status == 201):
            raise self._failure(answer, f"{self.url} (upload)")
        return answer

    def _url_of(self, what: Descriptor) -> str:
        kind = "manifests" if is_manifest(what) else "blobs"
        return f"{self._base}/{kind}/{what.digest}"

    def _named(self, reference: str) -> str:
        """Return what a tag or digest is called in errors.

        Raises:
            OciFormatError: it is neither.
        """
        if ":" in reference:
            return f"{self.url}@{Digest.parse(reference)}"
        return f"{self.url}:{registry_tag(reference)}"

    def _compare(self, data: bytes, wanted: Digest, what: str) -> None:
        found = digest_of(data, wanted.algorithm)
        if found != wanted:
            raise DigestMismatchError(
                f"{what} came with the digest {found}",
                subject=what,
                expected=str(wanted),
                found=str(found),
            )

    def _failure(self, answer: Answer, what: str) -> FetchError:
        return failure(answer, host=self._client.host, what=what)

    def _explain(self, why: FetchError) -> NoReturn:
        # What keeps us out of a token server has its own hint.
        if not why.url.startswith(SCHEME):
            hint = hint_of(why.status, why.url, host=self._client.host)
            why.hint = hint or why.hint
        raise why


def _accept(what: Descriptor) -> Mapping[str, str]:
    return _ACCEPT if is_manifest(what) else _ACCEPT_BLOB
