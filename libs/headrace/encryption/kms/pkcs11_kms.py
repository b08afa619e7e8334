"""Key-encryption keys on a token of PKCS#11: AES-256 keys that are made on it and never leave it; it wraps by AES-GCM itself."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from headrace.encryption.errors import KeysAwayError, LockedError
from headrace.encryption.kms import (
    NONCE_BYTES,
    Wrapped,
    check_retired,
    missing,
    number_of,
    open_to_others,
    unfit,
)
from headrace.encryption.settings import Pkcs11Settings

_BITS = 256
# The token has the data key in hand and refuses it: not its fault.
_REFUSED = (
    pkcs11.exceptions.EncryptedDataInvalid,
    pkcs11.exceptions.EncryptedDataLenRange,
    pkcs11.exceptions.ArgumentsBad,
    pkcs11.exceptions.GeneralError,
    pkcs11.exceptions.FunctionFailed,
)


class Pkcs11Kms:
    """One session, used by one thread at a time; after a failure the next call opens another."""

    def __init__(self, settings: Pkcs11Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._session: Any = None

    def current(self) -> str:
        known = self.versions()
        if not known:
            name = self._settings.key
            raise KeysAwayError(f"token {self._settings.token} has no key {name}/1; rotate to make it")
        return known[-1]

    def versions(self) -> list[str]:
        with self._lock:
            found: list[str] = self._told(self._versions)
        return found

    def wrap(self, key: bytes) -> Wrapped:
        version, nonce = self.current(), os.urandom(NONCE_BYTES)
        params = pkcs11.GCMParams(nonce, version.encode())
        with self._lock:
            sealed = self._told(
                lambda: self._key(version).encrypt(key, mechanism=Mechanism.AES_GCM, mechanism_param=params)
            )
        return Wrapped(version, nonce + bytes(sealed))

    def unwrap(self, wrapped: Wrapped) -> bytes:
        nonce, sealed = wrapped.content[:NONCE_BYTES], wrapped.content[NONCE_BYTES:]
        params = pkcs11.GCMParams(nonce, wrapped.version.encode())
        with self._lock:
            known = self._told(self._versions)
            if wrapped.version not in known:
                raise LockedError(missing(wrapped.version, known))
            key = self._told(lambda: self._key(wrapped.version))
            try:
                return bytes(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=params))
            except _REFUSED:
                raise LockedError(unfit(wrapped.version)) from None
            except pkcs11.PKCS11Error as error:
                raise self._away(error) from error

    def rotate(self) -> str:
        name = self._settings.key
        with self._lock:
            known = self._told(self._versions)
            number = number_of(known[-1], name) + 1 if known else 1
            label = f"{name}/{number}"
            template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            self._told(
                lambda: self._open(writes=True).generate_key(
                    KeyType.AES, _BITS, label=label, store=True, template=template
                )
            )
        return label

    def retire(self, version: str) -> None:
        with self._lock:
            check_retired(version, self._told(self._versions))

            def destroy() -> None:
                self._open(writes=True).get_key(ObjectClass.SECRET_KEY, KeyType.AES, label=version).destroy()

            self._told(destroy)

    def _versions(self) -> list[str]:
        name, session = self._settings.key, self._open()
        keys = session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
        numbers = {number_of(key.label, name) for key in keys} - {0}
        return [f"{name}/{number}" for number in sorted(numbers)]

    def _key(self, version: str) -> Any:
        return self._open().get_key(ObjectClass.SECRET_KEY, KeyType.AES, label=version)

    def _open(self, *, writes: bool = False) -> Any:
        if self._session is not None and writes:
            self._close()
        if self._session is None:
            token = pkcs11.lib(str(self._settings.module)).get_token(token_label=self._settings.token)
            pin = self._pin()
            try:
                self._session = token.open(user_pin=pin, rw=writes)
            except pkcs11.exceptions.UserAlreadyLoggedIn:
                # A login is the whole process's; another session of it has it.
                self._session = token.open(rw=writes)
        return self._session

    def _pin(self) -> str:
        path = self._settings.pin_file
        try:
            if open_to_others(path.stat()):
                raise KeysAwayError(f"{path} may be read by others: chmod 600 {path}")
            return path.read_text().strip()
        except KeysAwayError:
            raise
        except (OSError, UnicodeDecodeError) as error:
            raise KeysAwayError(f"{path} can't be read") from error

    def _told(self, what: Any) -> Any:
        try:
            return what()
        except KeysAwayError:
            raise
        except (pkcs11.PKCS11Error, OSError, RuntimeError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> KeysAwayError:
        self._close()
        return KeysAwayError(f"token {self._settings.token}: {type(error).__name__}")

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except (pkcs11.PKCS11Error, RuntimeError):
                return  # it has gone already
