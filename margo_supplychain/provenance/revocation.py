"""Which functionaries of a layout count no more.

A publisher policy names a key by the id that this package computes; a layout may call
the same key otherwise: another tool's id, another form of its PEM. What counts is the
key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.threshold import computed_keyids, material

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securesystemslib.signer import Key

    from margo_supplychain.formats.digests import Digest

_HASHED: Final = {"keyid_hash_algorithms": ["sha256", "sha512"]}


def revoked_materials(
    keys: Mapping[str, Key],
    revoked: Mapping[str, frozenset[Digest]],
    artifact: Digest,
) -> frozenset[str]:
    """Return the materials of those `keys` that count no more for an artifact.

    Args:
        keys: of a layout, by its own key ids.
        revoked: by key id or material: the artifacts for which the key still counts.
        artifact: the one in question.
    """
    now = {name.lower() for name, spared in revoked.items() if artifact not in spared}
    found = set[str]()
    for keyid, key in keys.items():
        own = material(key)
        if keyid.lower() in now or not now.isdisjoint(names_of(key)):
            found.add(own)
    return frozenset(found)


def names_of(key: Key) -> frozenset[str]:
    """Return all by which a policy may revoke a key: its material and computed ids."""
    ids = {one for form in _forms(key) for one in computed_keyids(form)}
    return frozenset({material(key), *ids})


def _forms(key: Key) -> Iterator[Key]:
    """Yield the key as other files and other tools have it.

    With and without the last line end of its PEM, with each scheme and type that it may
    have, and with the field that in-toto-golang and older tools hash into an id.
    """
    from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, SSlibKey

    yield key
    if not isinstance(key, SSlibKey):  # pragma: no cover - layouts hold no other
        return
    again = SSlibKey.from_crypto(key._crypto_key())  # noqa: SLF001 - no public reader
    kinds = [
        (keytype, scheme)
        for (keytype, scheme), reader in KEY_FOR_TYPE_AND_SCHEME.items()
        if reader is SSlibKey
        and (scheme == again.scheme or keytype == again.keytype == "rsa")
    ]
    public = again.keyval["public"]
    for text in {key.keyval["public"], public, public.strip()}:
        for keytype, scheme in kinds:
            value = {"public": text}
            yield SSlibKey("", keytype, scheme, value, dict(_HASHED))
