"""Key-encryption keys on a token of PKCS#11: AES-256 keys that are made on it and never leave it; it wraps by AES-GCM itself."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock, RLock
from typing import Any, ClassVar

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from headrace.encryption.errors import KeysAwayError, KeysProblem, LockedError
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
# The same PIN again would only bring a token nearer to the number of tries after which it locks itself.
_PIN_REFUSED = (
    pkcs11.exceptions.PinIncorrect,
    pkcs11.exceptions.PinInvalid,
    pkcs11.exceptions.PinLenRange,
    pkcs11.exceptions.PinExpired,
    pkcs11.exceptions.PinLocked,
)
_MISSING = (pkcs11.exceptions.NoSuchToken, pkcs11.exceptions.NoSuchKey, pkcs11.exceptions.TokenNotPresent)


class _Library:
    """The maker's library, one for the process: it knows tokens as they were when it began, so it begins anew after a failure.
    That ends the sessions of all who use it: those of an older `generation` are nobody's."""

    _loaded: ClassVar[dict[str, _Library]] = {}
    _loading = Lock()

    def __init__(self, module: str) -> None:
        self._module = module
        self.lock = RLock()
        self.generation = 0
        self._stale = False

    @classmethod
    def of(cls, module: Path) -> _Library:
        """The one of this file."""
        with cls._loading:
            return cls._loaded.setdefault(str(module), cls(str(module)))

    def distrust(self, generation: int) -> None:
        """What it knew in this generation may be out of date. The lock is the caller's."""
        self._stale = self._stale or generation == self.generation

    def token(self, label: str) -> Any:
        """Raises as the library. The lock is the caller's."""
        stale, self._stale = self._stale, True
        library = pkcs11.lib(self._module)
        if stale:
            self.generation += 1
            library.reinitialize()
        token = library.get_token(token_label=label)
        self._stale = False
        return token


class Pkcs11Kms:
    """One session, used by one thread of the process at a time; after a failure the next call opens another. A PIN that the token
    refuses is not tried again before its file changes."""

    def __init__(self, settings: Pkcs11Settings) -> None:
        self._settings = settings
        self._library = _Library.of(settings.module)
        self._lock = self._library.lock
        self._session: Any = None
        # Of the library, when the session was opened.
        self._generation = self._library.generation
        # Of the file with the PIN that was refused; and how.
        self._refused: tuple[tuple[int, int, int], str] | None = None

    def current(self) -> str:
        return self.versions()[-1]

    def versions(self) -> list[str]:
        with self._lock:
            return self._known()

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
            known = self._known()
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
            check_retired(version, self._known())

            def destroy() -> None:
                self._open(writes=True).get_key(ObjectClass.SECRET_KEY, KeyType.AES, label=version).destroy()

            self._told(destroy)

    def _known(self) -> list[str]:
        """All versions. Raises KeysAwayError, also if there is none: so a session sees a token that was taken away."""
        known: list[str] = self._told(self._versions)
        if not known:
            self._close()
            why = f"token {self._settings.token} has no key {self._settings.key}/1; rotate to make it"
            raise KeysAwayError(why, KeysProblem.MISSING)
        return known

    def _versions(self) -> list[str]:
        name, session = self._settings.key, self._open()
        keys = session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
        numbers = {number_of(key.label, name) for key in keys} - {0}
        return [f"{name}/{number}" for number in sorted(numbers)]

    def _key(self, version: str) -> Any:
        return self._open().get_key(ObjectClass.SECRET_KEY, KeyType.AES, label=version)

    def _open(self, *, writes: bool = False) -> Any:
        if self._generation != self._library.generation:
            self._session = None
        if self._session is not None and writes:
            self._end_session()
        if self._session is None:
            pin, stamp = self._pin()
            token = self._library.token(self._settings.token)
            self._generation = self._library.generation
            try:
                self._session = token.open(user_pin=pin, rw=writes)
            except pkcs11.exceptions.UserAlreadyLoggedIn:
                # A login is the whole process's; another session of it has it.
                self._session = token.open(rw=writes)
            except _PIN_REFUSED as error:
                self._refused = stamp, type(error).__name__
                raise
        return self._session

    def _pin(self) -> tuple[str, tuple[int, int, int]]:
        """What the file says, and its stamp."""
        path = self._settings.pin_file
        try:
            status = path.stat()
            if open_to_others(status):
                why = f"{path} may be read by others: chmod 600 {path}"
                raise KeysAwayError(why, KeysProblem.OPEN_TO_OTHERS)
            stamp = status.st_ino, status.st_mtime_ns, status.st_size
            if self._refused is not None and self._refused[0] == stamp:
                why = (
                    f"token {self._settings.token}: {self._refused[1]}; the PIN in {path} is not tried again"
                )
                raise KeysAwayError(why, KeysProblem.PIN_REFUSED)
            return path.read_text().strip(), stamp
        except KeysAwayError:
            raise
        except FileNotFoundError as error:
            raise KeysAwayError(f"{path} can't be read", KeysProblem.MISSING) from error
        except (OSError, UnicodeDecodeError) as error:
            raise KeysAwayError(f"{path} can't be read", KeysProblem.UNREADABLE) from error

    def _told(self, what: Any) -> Any:
        try:
            return what()
        except KeysAwayError:
            raise
        except (pkcs11.PKCS11Error, OSError, RuntimeError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> KeysAwayError:
        problem = KeysProblem.TOKEN_AWAY
        if isinstance(error, _PIN_REFUSED):
            problem = KeysProblem.PIN_REFUSED
        elif isinstance(error, _MISSING):
            problem = KeysProblem.MISSING
        if problem is not KeysProblem.PIN_REFUSED:
            self._close()
        return KeysAwayError(f"token {self._settings.token}: {type(error).__name__}", problem)

    def _close(self) -> None:
        self._end_session()
        self._library.distrust(self._generation)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except (pkcs11.PKCS11Error, RuntimeError):
                return  # it has gone already
