"""Everything that a keyring does with tokens: open, look, make, list.

Finds the module and the token that a URI means, and keeps one link, with one login, to
each. Which PIN handler is asked, and which module is meant when a URI names none, are
parameters: neither the environment nor a registry of modules is consulted.

Example:
    >>> tokens = Tokens(pin=ask, module=Path("/usr/lib/softhsm/libsofthsm2.so"))
    >>> signer = tokens.open("pkcs11:token=root-a;object=root", expect=public_key)
    >>> signature = signer.sign(b"payload")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import failures
from margo_supplychain.signing.pkcs11.module import Module, ProcessLock, load_module
from margo_supplychain.signing.pkcs11.uri import TokenUri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securesystemslib.signer import Key, Signer, SSlibKey

    from margo_supplychain.signing.keyring import PinHandler
    from margo_supplychain.signing.pkcs11.objects import Found
    from margo_supplychain.signing.pkcs11.sessions import TokenLink
    from margo_supplychain.signing.pkcs11.signer import TokenSigner
    from margo_supplychain.signing.pkcs11.slots import Identity
    from margo_supplychain.signing.public_files import Custody, KeyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key in a token, as `key tokens` shows it.

    Args:
        uri: names it: token, object and id.
        key: the public half; None if the token hides it, it is of a kind that is not
            signed with, or the private half did not prove that it is its own.
        custody: of the private half; None if that is hidden before a login, or absent.
        problem: why `key` is None, in words.
    """

    uri: str
    key: SSlibKey | None
    custody: Custody | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """A token that is plugged in.

    Args:
        module: what shows it.
        uri: names it: label and serial number.
        state: what its owner should know of its PIN, such as `locked`; may be empty.
        logged_in: whether private keys could be looked at.
        keys: what is visible, by label.
    """

    module: Path
    label: str
    serial: str
    manufacturer: str
    model: str
    uri: str
    state: str
    logged_in: bool
    keys: tuple[TokenKey, ...]


@final
class Tokens:
    """The tokens of one keyring; may be used from any thread."""

    def __init__(self, *, pin: PinHandler, module: Path | None) -> None:
        self._pin = pin
        self._module = module
        self._lock = ProcessLock()
        self._links: dict[tuple[Module, Identity, int | None], TokenLink] = {}
        self._closed = False

    def open(self, uri: str, *, expect: Key | None = None) -> Signer:
        """Return the signer of a private key; logs in to its token, once.

        Args:
            uri: names one key in one token.
            expect: the public key that it must belong to. Where the token shows public
                keys, this is checked before anybody types a PIN.

        It signs a probe first: a token lets others change the public half.

        Raises:
            SignerError: bad URI or module; no or several such tokens or keys; a wrong
                PIN; a key of somebody else, or of a kind that is not signed with.
        """
        wanted = TokenUri.parse(uri)
        if wanted.type == "public":
            raise SignerError(
                f"{wanted.without_query()} names a public key",
                hint="take type=public out to sign",
            )
        link = self._link(wanted)
        with failures.told(f"token {link.label}, key {wanted.key}"):
            if expect is not None:
                _recognise(link, wanted, expect)
            link.login(wanted.pin_source)
            return _private(link, wanted, expect)[0]

    def look(
        self, uri: str, *, custody: bool = True, expect: Key | None = None
    ) -> KeyRecord:
        """Return a key's public half, and what the token says of the private one.

        Args:
            uri: names one key in one token.
            custody: log in for it where the token hides private keys; without it a
                login happens only if the public half is hidden, too. What comes with
                custody was proved by a signature; what comes without was not.
            expect: the public key that it must be, for a token that does not keep it.

        Raises:
            SignerError: as `open`; or `custody` of what names a public key alone.
        """
        wanted = TokenUri.parse(uri)
        if custody and wanted.type == "public":
            raise SignerError(
                f"{wanted.without_query()} names a public key, which anybody can put "
                "into a token without its PIN",
                hint="take type=public out: the private half proves which key it is",
            )
        link = self._link(wanted)
        from margo_supplychain.signing.checked import public_half
        from margo_supplychain.signing.public_files import KeyRecord

        with failures.told(f"token {link.label}, key {wanted.key}"):
            public = _public(link, wanted)
            if public is None or (custody and not _shows_private(link, wanted)):
                link.login(wanted.pin_source)
                public = _public(link, wanted)
            if custody or (public is None and wanted.type != "public"):
                signer, found, said = _private(link, wanted, expect)
                key = public_half(signer)
                return KeyRecord(
                    key=key, uri=_recorded(link, wanted, found), custody=said
                )
            if public is None:
                raise SignerError(
                    f"token {link.label} has no public key {wanted.key}",
                    hint="`margo-supplychain key tokens` lists the keys that are there",
                )
            half, key = public
            return KeyRecord(key=key, uri=_recorded(link, wanted, half))

    def generate(
        self,
        uri: str,
        *,
        scheme: str,
        bits: int | None = None,
        replace: bool = False,
        ask: Callable[[str | None], None] | None = None,
    ) -> KeyRecord:
        """Make a key inside the token: to sign with alone, never to leave it.

        Args:
            uri: with `token` and `object`; with `id`, or a new one is chosen.
            scheme: `ecdsa-sha2-nistp256`, `ecdsa-sha2-nistp384`, `ed25519` or
                `rsassa-pss-sha256`.
            bits: of RSA, 3072 (as None) or 4096.
            replace: make it in place of the key with that name, which is lost.
            ask: told which key that is, in words, or None, before anything is made;
                it raises to keep it.

        Raises:
            SignerError: the name or id is taken, or the token refuses.
        """
        wanted = TokenUri.parse(uri)
        module = self._module_of(wanted)
        from margo_supplychain.signing.pkcs11 import generating
        from margo_supplychain.signing.pkcs11.objects import Found
        from margo_supplychain.signing.public_files import KeyRecord

        name, size = generating.check_request(wanted, scheme, bits)
        link = self._link(wanted, module)
        with failures.told(f"token {link.label}: no key {wanted.key} was made"):
            link.login(wanted.pin_source)
            with link.module.use() as library:
                session = link.token(library).open(rw=True)
                try:
                    key, identifier, custody = generating.generate(
                        session,
                        wanted,
                        scheme=scheme,
                        bits=size,
                        replace=replace,
                        ask=ask,
                    )
                finally:
                    session.close()
        made = Found(object=None, label=name, id=identifier)
        return KeyRecord(key=key, uri=_recorded(link, wanted, made), custody=custody)

    def tokens(
        self, uri: str | None = None, *, login: bool = False
    ) -> tuple[TokenInfo, ...]:
        """Return the tokens of a module with their keys, by label.

        Args:
            uri: only the tokens that it means; its module, else the configured one.
            login: log in to each of them; most tokens hide private keys before. Where
                there are several, one that refuses does not hide the others.

        Raises:
            SignerError: bad URI or module, or the only token fails.
        """
        wanted = TokenUri() if uri is None else TokenUri.parse(uri)
        module = self._module_of(wanted)
        from margo_supplychain.signing.pkcs11.listing import failed, info_of
        from margo_supplychain.signing.pkcs11.slots import (
            Identity,
            matches,
            present_tokens,
        )

        with failures.told(f"PKCS#11 module {module.path}"):
            with module.use() as library:
                found = sorted(
                    (Identity.of(token), token.slot.slot_id)
                    for token in present_tokens(library)
                    if matches(token, wanted, library)
                )
            infos = []
            for identity, slot_id in found:
                link = self._link_to(module, identity, slot_id)
                try:
                    with failures.told(f"token {link.label}"):
                        if login:
                            link.login(wanted.pin_source)
                        infos.append(info_of(link, wanted))
                except SignerError as why:
                    if len(found) == 1:
                        raise
                    infos.append(failed(link, why))
        return tuple(infos)

    def present(self, uri: str) -> bool:
        """Tell whether a token that the URI means is here; never asks for a PIN.

        Raises:
            SignerError: bad URI, no module to ask, or one that can't be loaded.
        """
        wanted = TokenUri.parse(uri)
        module = self._module_of(wanted)
        from margo_supplychain.signing.pkcs11.slots import matches, present_tokens

        with (
            failures.told(f"PKCS#11 module {module.path}"),
            module.use() as library,
        ):
            return any(
                matches(token, wanted, library) for token in present_tokens(library)
            )

    def close(self) -> None:
        """Let go of every token; signers that were opened sign no more."""
        with self._lock.held():
            self._closed = True
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            link.close()

    def _module_of(self, uri: TokenUri) -> Module:
        path = uri.module_path or self._module
        if path is None:
            raise SignerError(
                "no PKCS#11 module is named, neither by the URI nor by the settings",
                hint="set pkcs11-module, or end the URI with "
                "?module-path=/usr/lib/softhsm/libsofthsm2.so",
            )
        module = load_module(path)
        # What is missing is said here; everything after imports python-pkcs11.
        with module.use():
            return module

    def _link(self, uri: TokenUri, module: Module | None = None) -> TokenLink:
        module = module or self._module_of(uri)
        from margo_supplychain.signing.pkcs11.slots import Identity, find_token

        with failures.told(f"PKCS#11 module {module.path}"):
            with module.use() as library:
                identity = Identity.of(find_token(uri, library, module.path))
            return self._link_to(module, identity, uri.slot_id)

    def _link_to(
        self, module: Module, identity: Identity, slot_id: int | None
    ) -> TokenLink:
        from margo_supplychain.signing.pkcs11.sessions import TokenLink
        from margo_supplychain.signing.pkcs11.slots import present_tokens

        with self._lock.held():
            if self._closed:
                raise ValueError("this keyring is closed")
            key = (module, identity, slot_id)
            link = self._links.get(key)
            if link is None:
                with module.use() as library:
                    labels = [token.label for token in present_tokens(library)]
                link = self._links[key] = TokenLink(
                    module,
                    identity,
                    slot_id=slot_id,
                    pin=self._pin,
                    name=identity.uri(serial=labels.count(identity.label) != 1),
                )
            return link


def _recognise(link: TokenLink, uri: TokenUri, expect: Key) -> None:
    """Refuse a token that shows another key under that name, before any PIN.

    A token that was swapped for another of the same label must not learn the PIN.
    """
    from pkcs11 import ObjectClass

    from margo_supplychain.signing.files import check_belongs
    from margo_supplychain.signing.pkcs11 import objects

    with link.module.use() as library:
        session = link.session(library)
        found = objects.find(session, uri, ObjectClass.PUBLIC_KEY)
        if len(found) == 1:
            check_belongs(
                objects.public_key_of(found[0]),
                expect,
                what=f"key {found[0].name} in token {link.label}",
            )
        elif found:
            objects.only(found, uri, token=link.label, what="public")


def _private(
    link: TokenLink, uri: TokenUri, expect: Key | None
) -> tuple[TokenSigner, Found, Custody]:
    """Return a private key that proved which public one is its own."""
    from pkcs11 import Attribute, ObjectClass

    from margo_supplychain.signing.files import check_belongs
    from margo_supplychain.signing.pkcs11 import objects
    from margo_supplychain.signing.pkcs11.signer import TokenSigner

    with link.module.use() as library:
        session = link.session(library)
        found = objects.find(session, uri, ObjectClass.PRIVATE_KEY)
        private = objects.only(found, uri, token=link.label, what="private")
        key = objects.public_half(session, private, expect)
        what = f"key {private.name} in token {link.label}"
        if expect is not None:
            check_belongs(key, expect, what=what)
        if objects.read(private.object, Attribute.SIGN) is False:
            raise SignerError(
                f"{what} may not sign",
                hint="make a key for signatures: `margo-supplychain key generate`",
            )
        custody = objects.custody_of(private.object)
        signer = TokenSigner(link, private, key, source=uri.pin_source)
    signer.prove()  # outside the lock: it may ask for a PIN
    return signer, private, custody


def _public(link: TokenLink, uri: TokenUri) -> tuple[Found, SSlibKey] | None:
    from pkcs11 import ObjectClass

    from margo_supplychain.signing.pkcs11 import objects

    with link.module.use() as library:
        found = objects.find(link.session(library), uri, ObjectClass.PUBLIC_KEY)
        if not found:
            return None
        half = objects.only(found, uri, token=link.label, what="public")
        return half, objects.public_key_of(half)


def _shows_private(link: TokenLink, uri: TokenUri) -> bool:
    from pkcs11 import ObjectClass

    from margo_supplychain.signing.pkcs11 import objects

    with link.module.use() as library:
        session = link.session(library)
        return bool(objects.find(session, uri, ObjectClass.PRIVATE_KEY))


def _recorded(link: TokenLink, uri: TokenUri, found: Found) -> str:
    """Return what may be written down: what was meant, and the key without doubt.

    Slots are renumbered, and versions of a library rise: the serial number of a token
    that was named by one of them is written instead.
    """
    pinned = uri.serial is not None or uri.slot_id is not None
    token = link.identity.uri(serial=pinned)
    return str(
        TokenUri(
            token=token.token,
            serial=token.serial,
            manufacturer=uri.manufacturer,
            model=uri.model,
            object=found.label or None,
            id=found.id or None,
        )
    )
