"""Which functionaries of a layout count no more.

A publisher policy names a key by the id that this package computes; a layout may call
the same key otherwise: another tool's id, another form of its PEM. What counts is the
key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.threshold import computed_keyids, material

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from securesystemslib.signer import Key

    from margo_supplychain.formats.digests import Digest

_HASHED: Final = {"keyid_hash_algorithms": ["sha256", "sha512"]}


def revoked_materials(
    keys: Mapping[str, Key],
    revoked: Mapping[str, Collection[Digest]],
    release: Digest | None,
) -> frozenset[str]:
    """Return the materials of those `keys` that count no more for a release.

    Args:
        keys: of a layout, by its own key ids.
        revoked: by key id or material: the releases for which the key still counts.
            The artifact's digest would spare whatever else is made around it.
        release: `ReleaseRecord.release` of the one in question; None spares nobody.
    """
    named = _named(revoked, release)
    return frozenset(material(keys[keyid]) for keyid in _lost(keys, named))


def revoked_names(
    keys: Mapping[str, Key],
    revoked: Mapping[str, Collection[Digest]],
    release: Digest | None,
) -> frozenset[str]:
    """Return all that summaries may call those who count no more, in lower case.

    Args:
        keys: of the layout that a summary was made by.
        revoked, release: as in `revoked_materials`.
    """
    named = _named(revoked, release)
    return named.union(
        *({keyid.lower(), *names_of(keys[keyid])} for keyid in _lost(keys, named))
    )


def _named(
    revoked: Mapping[str, Collection[Digest]], release: Digest | None
) -> frozenset[str]:
    return frozenset(
        name.lower() for name, spared in revoked.items() if release not in spared
    )


def _lost(keys: Mapping[str, Key], named: frozenset[str]) -> Iterator[str]:
    """Yield the layout's ids of those who are named."""
    # Names of keys cost time, and mostly nobody is revoked.
    for keyid, key in keys.items() if named else ():
        if keyid.lower() in named or not named.isdisjoint(names_of(key)):
            yield keyid


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
