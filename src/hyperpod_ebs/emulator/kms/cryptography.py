"""Encrypt, Decrypt, ReEncrypt, GenerateDataKey and GenerateDataKeyWithoutPlaintext."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.kms import key_material
from hyperpod_ebs.emulator.kms.key_material import EncryptionContext, InvalidCiphertext
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms.refusals import refuse_dry_run, refuse_recipient
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

ALGORITHM: Final = "SYMMETRIC_DEFAULT"

_DATA_KEY_BYTES: Final = {"AES_128": 16, "AES_256": 32}

MAX_CONTEXT: Final = 8192
"""Characters of an encryption context (quota "Encryption context")."""


@dataclass(frozen=True, slots=True)
class Cryptography:
    """The operations that use a key."""

    world: World
    keyring: Keyring

    operations = Operations["Cryptography"]()

    @operations("Encrypt")
    async def encrypt(self, parameters: Parameters, call: Call) -> Answer:
        """Encrypt up to 4,096 bytes."""
        key = self._usable_key(parameters["KeyId"], parameters, call)
        _check_algorithm(parameters, "EncryptionAlgorithm")
        context = _context(parameters)
        refuse_dry_run(parameters)
        blob = self.keyring.materials.encrypt(key, parameters["Plaintext"], context)
        answer = {"KeyId": self.keyring.arn(key.id), "CiphertextBlob": blob, "EncryptionAlgorithm": ALGORITHM}
        return await self.world.acknowledge(answer)  # the key's material, without which the answer is worthless

    @operations("Decrypt")
    async def decrypt(self, parameters: Parameters, call: Call) -> Answer:
        """Decrypt; the ciphertext names its key."""
        refuse_recipient(parameters)
        _check_algorithm(parameters, "EncryptionAlgorithm")
        key, plaintext = self._open(parameters, call, named="KeyId", context=_context(parameters))
        refuse_dry_run(parameters)
        answer = {
            "KeyId": self.keyring.arn(key.id),
            "Plaintext": plaintext,
            "EncryptionAlgorithm": ALGORITHM,
            "KeyMaterialId": self.keyring.materials.material_id(key),
        }
        return await self.world.acknowledge(answer)

    @operations("ReEncrypt")
    async def re_encrypt(self, parameters: Parameters, call: Call) -> Answer:
        """Decrypt, and encrypt under another key or encryption context, without showing the plaintext."""
        _check_algorithm(parameters, "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm")
        context = _context(parameters, "Source")
        source, plaintext = self._open(parameters, call, named="SourceKeyId", context=context)
        destination = self._usable_key(parameters["DestinationKeyId"], parameters, call)
        new_context = _context(parameters, "Destination")
        refuse_dry_run(parameters)
        materials = self.keyring.materials
        answer = {
            "CiphertextBlob": materials.encrypt(destination, plaintext, new_context),
            "SourceKeyId": self.keyring.arn(source.id),
            "KeyId": self.keyring.arn(destination.id),
            "SourceEncryptionAlgorithm": ALGORITHM,
            "DestinationEncryptionAlgorithm": ALGORITHM,
            "SourceKeyMaterialId": materials.material_id(source),
            "DestinationKeyMaterialId": materials.material_id(destination),
        }
        return await self.world.acknowledge(answer)

    @operations("GenerateDataKey")
    async def generate_data_key(self, parameters: Parameters, call: Call) -> Answer:
        """A new data key, in plaintext and encrypted."""
        return await self._data_key(parameters, call)

    @operations("GenerateDataKeyWithoutPlaintext")
    async def generate_data_key_without_plaintext(self, parameters: Parameters, call: Call) -> Answer:
        """A new data key, encrypted only."""
        answer = await self._data_key(parameters, call)
        return {name: value for name, value in answer.items() if name != "Plaintext"}

    async def _data_key(self, parameters: Parameters, call: Call) -> Mapping[str, str | bytes]:
        refuse_recipient(parameters)
        size, spec = parameters.get("NumberOfBytes"), parameters.get("KeySpec")
        if (size is None) == (spec is None):
            raise AwsFault("ValidationException", "Please specify either number of bytes or key spec.")
        key = self._usable_key(parameters["KeyId"], parameters, call)
        context = _context(parameters)
        refuse_dry_run(parameters)
        plaintext = secrets.token_bytes(size or _DATA_KEY_BYTES[spec or "AES_256"])
        answer: Mapping[str, str | bytes] = {
            "KeyId": self.keyring.arn(key.id),
            "Plaintext": plaintext,
            "CiphertextBlob": self.keyring.materials.encrypt(key, plaintext, context),
            "KeyMaterialId": self.keyring.materials.material_id(key),
        }
        return await self.world.acknowledge(answer)

    def _usable_key(self, name: str, parameters: Parameters, call: Call) -> Key:
        key = self.keyring.find(name, call)
        self.keyring.check_tokens(parameters)
        self.keyring.require_usable(key)
        return key

    def _open(self, parameters: Parameters, call: Call, *, named: str, context: EncryptionContext) -> tuple[Key, bytes]:
        """The key of a ciphertext, and the plaintext; `named` is the parameter that may name the key as well."""
        blob = parameters.get("CiphertextBlob")
        if blob is None:
            if not (parameters.get("DryRun") and parameters.get("DryRunModifiers") and named in parameters):
                raise AwsFault("ValidationException", "CiphertextBlob is required")
            return self._usable_key(parameters[named], parameters, call), b""
        id_ = key_material.key_id_of(blob)
        if id_ is None or id_ not in self.world.store.kms_keys:
            raise _invalid_ciphertext()
        if named in parameters and self.keyring.find(parameters[named], call).id != id_:
            text = "The key ID in the request does not identify a CMK that can perform this operation."
            raise AwsFault("IncorrectKeyException", text)
        key = self._usable_key(id_, parameters, call)
        try:
            return key, self.keyring.materials.decrypt(key, blob, context)
        except InvalidCiphertext as error:
            raise _invalid_ciphertext() from error


def _context(parameters: Parameters, prefix: str = "") -> EncryptionContext:
    context: EncryptionContext = parameters.get(f"{prefix}EncryptionContext", {})
    if sum(len(name) + len(value) for name, value in context.items()) > MAX_CONTEXT:
        raise AwsFault("ValidationException", f"The encryption context is longer than {MAX_CONTEXT} characters.")
    return context


def _check_algorithm(parameters: Parameters, *names: str) -> None:
    for name in names:
        if (algorithm := parameters.get(name, ALGORITHM)) != ALGORITHM:
            text = f"The algorithm {algorithm} does not fit a key of the spec SYMMETRIC_DEFAULT."
            raise AwsFault("InvalidKeyUsageException", text)


def _invalid_ciphertext() -> AwsFault:
    """KMS does not say what is wrong with a ciphertext."""
    return AwsFault("InvalidCiphertextException", "")
