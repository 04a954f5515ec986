"""A key in a token as a securesystemslib signer.

Payloads are hashed here and the length of the digest is checked: SoftHSM signs the
beginning of whatever it is given, and says nothing. Each signature is verified with the
public key before anybody gets it. What a pulled-out token, a fork or somebody else's
C_Finalize made invalid is looked up anew once, by the token's serial number and the
key's label and id; then the error is told.

Imported once a module is loaded: python-pkcs11 is there.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import MGF, Attribute, Mechanism, ObjectClass, PKCS11Error
from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import Signature, SSlibKey

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.files import check_belongs
from margo_supplychain.signing.keys import ECDSA_P256, ECDSA_P384, ED25519, RSA_PSS
from margo_supplychain.signing.opened import OpenedSigner
from margo_supplychain.signing.pkcs11 import failures, objects
from margo_supplychain.signing.pkcs11.uri import TokenUri

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Key

    from margo_supplychain.signing.pkcs11.sessions import TokenLink


class Way(NamedTuple):
    """How a scheme is signed by a token.

    Args:
        mechanism: over a digest, but for Ed25519, which hashes by itself.
        parameter: of RSA-PSS: hash, mask, and a salt as long as the digest.
        hash: what is hashed here; None for Ed25519.
        digest: its length in bytes.
        raw: length of the token's signature in bytes; None for RSA, which varies.
    """

    mechanism: Mechanism
    parameter: Any
    hash: str | None
    digest: int
    raw: int | None


WAYS: Final = {
    ECDSA_P256: Way(Mechanism.ECDSA, None, "sha256", 32, 64),
    ECDSA_P384: Way(Mechanism.ECDSA, None, "sha384", 48, 96),
    ED25519: Way(Mechanism.EDDSA, None, None, 0, 64),
    RSA_PSS: Way(
        Mechanism.RSA_PKCS_PSS,
        (Mechanism.SHA256, MGF.SHA256, 32),
        "sha256",
        32,
        None,
    ),
}


# No metadata begins like this (JSON by a brace, DSSE by its name), and no two are
# alike: a signature that somebody collects here is of no use to anybody.
_PROBE: Final = b"margo-supplychain asks which key this is\0"
_FRESH: Final = 32  # bytes


def probe() -> bytes:
    """Return what a key signs to show which one it is."""
    return _PROBE + os.urandom(_FRESH)


def signed_data(scheme: str, payload: bytes) -> bytes:
    """Return what the token is given: the digest, or the payload of Ed25519.

    Raises:
        SignerError: the digest has another length than the scheme's.
    """
    way = WAYS[scheme]
    if way.hash is None:
        return payload
    digest = hashlib.new(way.hash, payload).digest()
    if len(digest) != way.digest:
        raise SignerError(
            f"a digest of {len(digest)} bytes for {scheme}, expected {way.digest}"
        )
    return digest


def raw_signature(key: Any, scheme: str, data: bytes, *, pin: str | None) -> bytes:
    """Let a key object sign; inside `Module.use()`.

    Args:
        key: python-pkcs11's private key.
        scheme: one of `WAYS`.
        data: what `signed_data` returned.
        pin: for a key that demands it each time.
    """
    way = WAYS[scheme]
    raw: bytes = key.sign(
        data, mechanism=way.mechanism, mechanism_param=way.parameter, pin=pin
    )
    return raw


def checked_signature(
    key: SSlibKey, raw: bytes, payload: bytes, *, subject: str
) -> Signature:
    """Return a token's signature as TUF writes it, once it verifies.

    Raises:
        SignerError: it does not verify, or is not even as long as it must be.
    """
    way = WAYS[key.scheme]
    hint = "nothing was written; check the token, do not go on with it"
    if way.raw is not None and len(raw) != way.raw:
        raise SignerError(
            f"{subject}: a signature of {len(raw)} bytes, expected {way.raw}", hint=hint
        )
    if way.mechanism == Mechanism.ECDSA:
        middle = len(raw) // 2
        raw = encode_dss_signature(
            int.from_bytes(raw[:middle], "big"), int.from_bytes(raw[middle:], "big")
        )
    signature = Signature(key.keyid, raw.hex())
    try:
        key.verify_signature(signature, payload)
    except SecuresystemslibError as why:
        raise SignerError(
            f"{subject}: made a signature that does not verify with key "
            f"{key.keyid[:12]}",
            hint=hint,
        ) from why
    return signature


def check_pair(key: SSlibKey, raw: bytes, payload: bytes, *, subject: str) -> None:
    """Check that a key signed the probe with the private half of `key`.

    Who reaches a token without its PIN can't change a private key, but put another
    public one in place of that beside it.

    Raises:
        SignerError: it is another's public key.
    """
    try:
        checked_signature(key, raw, payload, subject=subject)
    except SignerError as why:
        raise SignerError(
            f"{subject}: the public key beside it ({key.keyid[:12]}) is not its own",
            hint="somebody changed the token without its PIN, or it is faulty: do not "
            "use it before its public key is the one that its holder knows",
        ) from why


@final
class TokenSigner(OpenedSigner):
    """Signs with a key that never leaves its token.

    Args:
        link: the way to the token.
        private: the key object, found in the link's present epoch.
        key: its public half.
        source: the file with the PIN, if the URI named one.
    """

    def __init__(
        self,
        link: TokenLink,
        private: objects.Found,
        key: SSlibKey,
        *,
        source: Path | None,
    ) -> None:
        self._link = link
        self._key = key
        self._source = source
        self._which = TokenUri(object=private.label or None, id=private.id or None)
        self._subject = f"token {link.label}, key {private.name}"
        self._held = (link.epoch, private.object)
        self._always = bool(objects.read(private.object, Attribute.ALWAYS_AUTHENTICATE))

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._key

    def sign(self, payload: bytes) -> Signature:
        """Sign `payload`, from any thread and in a forked child.

        Raises:
            SignerError: the token refuses or is gone, a login that became necessary
                failed, or the signature that came out does not verify.
        """
        data = signed_data(self._key.scheme, payload)
        raw = self._sign(data)
        return checked_signature(self._key, raw, payload, subject=self._subject)

    def prove(self) -> None:
        """Sign a probe, once for each session: is `public_key` of this private key?

        Raises:
            SignerError: it is not, or the token does not sign.
        """
        pair = (self._which, self._key.keyid)
        if pair in self._link.proven:
            return
        payload = probe()
        raw = self._sign(signed_data(self._key.scheme, payload))
        check_pair(self._key, raw, payload, subject=self._subject)
        self._link.proven.add(pair)

    def _sign(self, data: bytes) -> bytes:
        if self._always:
            with failures.told(self._subject):
                return self._authorised(data)
        epoch = self._held[0]
        try:
            found = self._quickly(data)
        except PKCS11Error as why:
            ckr = failures.ckr_of(why)
            if ckr not in failures.STALE:
                raise failures.refusal(self._subject, ckr) from why
            found = None
        if found is not None:
            return found
        with failures.told(self._subject):
            with self._link.module.use():
                self._link.drop(epoch)
            return self._anew(data)

    def _quickly(self, data: bytes) -> bytes | None:
        """Sign with the handle at hand; None if it means nothing any more."""
        with self._link.module.use():
            epoch, key = self._held
            if not self._link.is_current(epoch):
                return None
            return raw_signature(key, self._key.scheme, data, pin=None)

    def _anew(self, data: bytes) -> bytes:
        self._link.login(self._source)
        with self._link.module.use() as library:
            private = self._find(self._link.session(library))
            self._held = (self._link.epoch, private.object)
            return raw_signature(private.object, self._key.scheme, data, pin=None)

    def _authorised(self, data: bytes) -> bytes:
        """Sign with a key that wants the PIN each time (CKA_ALWAYS_AUTHENTICATE).

        In a session of its own: after a wrong PIN the operation stays open for ever.
        """
        self._link.login(self._source)
        pin = self._link.pin(self._source)
        with self._link.module.use() as library:
            session = self._link.token(library).open()
            try:
                private = self._find(session)
                raw = raw_signature(private.object, self._key.scheme, data, pin=pin)
            except PKCS11Error as why:
                ckr = failures.ckr_of(why)
                if ckr.startswith("CKR_PIN_"):
                    self._link.judge(ckr, pin)
                raise
            finally:
                session.close()
        self._link.judge(failures.OK, pin)
        return raw

    def _find(self, session: Any) -> objects.Found:
        """Find the same key again, and not another one by its name."""
        label = self._link.label
        found = objects.find(session, self._which, ObjectClass.PRIVATE_KEY)
        private = objects.only(found, self._which, token=label, what="private")
        key = objects.public_half(session, private, self._key)
        check_belongs(key, self._key, what=f"{self._subject} now")
        return private
