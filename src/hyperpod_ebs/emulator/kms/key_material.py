"""Cryptography of KMS: key material under the root key, ciphertexts under key material, and grant tokens.

A ciphertext names its key and the generation of the key's material, so that Decrypt needs no
key id and rotation does not end what was encrypted before:

version (1 byte) | key id (16) | generation (2) | nonce (12) | AES-256-GCM ciphertext and tag

The encryption context and the bytes before the nonce are the additional authenticated data.
"""

import base64
import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hyperpod_ebs.emulator.kms_records import Key

EncryptionContext = Mapping[str, str]

_VERSION: Final = b"\x01"
_KEY_ID: Final = slice(1, 17)
_HEADER: Final = 19
_NONCE: Final = 12
_TAG: Final = 16
_BYTES: Final = 32


class InvalidCiphertext(ValueError):  # noqa: N818 - named for what is wrong, after KMS's InvalidCiphertextException
    """The text was not encrypted with this key and this encryption context."""


class KeyMaterials:
    """Encrypts and decrypts with the material of keys."""

    def __init__(self, root: bytes) -> None:
        self._root: Final = AESGCM(root)

    def generate(self, key_id: str) -> str:
        """New key material, encrypted under the root key."""
        return self._wrap(secrets.token_bytes(_BYTES), key_id.encode())

    def material_id(self, key: Key) -> str:
        """The id of the material that encrypts: 64 hex digits."""
        return hashlib.sha256(self._material(key, len(key.materials) - 1)).hexdigest()

    def encrypt(self, key: Key, plaintext: bytes, context: EncryptionContext) -> bytes:
        """Encrypt under the latest material of the key."""
        generation = len(key.materials) - 1
        header = _VERSION + uuid.UUID(key.id).bytes + generation.to_bytes(2, "big")
        nonce = secrets.token_bytes(_NONCE)
        cipher = AESGCM(self._material(key, generation))
        return header + nonce + cipher.encrypt(nonce, plaintext, header + _canonical(context))

    def decrypt(self, key: Key, blob: bytes, context: EncryptionContext) -> bytes:
        """Decrypt what `encrypt` returned.

        Raises:
            InvalidCiphertext: The blob is damaged, or has another key or encryption context.
        """
        generation = int.from_bytes(blob[_HEADER - 2 : _HEADER], "big")
        if key_id_of(blob) != key.id or generation >= len(key.materials):
            raise InvalidCiphertext
        header, nonce, ciphertext = blob[:_HEADER], blob[_HEADER : _HEADER + _NONCE], blob[_HEADER + _NONCE :]
        try:
            return AESGCM(self._material(key, generation)).decrypt(nonce, ciphertext, header + _canonical(context))
        except InvalidTag as error:
            raise InvalidCiphertext from error

    def grant_token(self, grant_id: str) -> str:
        """A token of the grant; each one differs."""
        return self._wrap(grant_id.encode(), b"grant token")

    def grant_id_of(self, token: str) -> str | None:
        """The id of the grant of a token; None if the emulator did not make the token."""
        try:
            return self._unwrap(token, b"grant token").decode()
        except ValueError:
            return None

    def _material(self, key: Key, generation: int) -> bytes:
        return self._unwrap(key.materials[generation], key.id.encode())

    def _wrap(self, secret: bytes, purpose: bytes) -> str:
        nonce = secrets.token_bytes(_NONCE)
        return base64.b64encode(nonce + self._root.encrypt(nonce, secret, purpose)).decode()

    def _unwrap(self, text: str, purpose: bytes) -> bytes:
        """The secret that `_wrap` encrypted.

        Raises:
            ValueError: The text has another origin or purpose.
        """
        blob = base64.b64decode(text, validate=True)
        if len(blob) < _NONCE + _TAG:
            raise ValueError("the text is too short")
        try:
            return self._root.decrypt(blob[:_NONCE], blob[_NONCE:], purpose)
        except InvalidTag as error:
            raise ValueError("the text has another origin") from error


def key_id_of(blob: bytes) -> str | None:
    """The id of the key that a ciphertext names; None if the blob does not have the form of a ciphertext."""
    if not blob.startswith(_VERSION) or len(blob) < _HEADER + _NONCE + _TAG:
        return None
    return str(uuid.UUID(bytes=blob[_KEY_ID]))


def _canonical(context: EncryptionContext) -> bytes:
    """The context as bytes that do not depend on the order of its pairs."""
    return json.dumps(sorted(context.items())).encode()
