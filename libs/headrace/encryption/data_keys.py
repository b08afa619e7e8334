"""Data keys: one that is used for a while, those that were opened before. So the key management is asked rarely."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from headrace.encryption.errors import KeysAwayError, KeysProblem, LockedError
from headrace.encryption.kms import DATA_KEY_BYTES, KeyManagement, Wrapped

# After a failure the key management is left alone for so long, where a key is still at hand.
_PAUSE_S = 5.0
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, and the form of it that is kept with what it seals."""

    wrapped: Wrapped
    secret: bytes


class KeyMeter(Protocol):
    """Told how it goes. `why`: locked or damaged. `away`: at each call that missed the keys; `back`: at the first that reached
    them again."""

    def follow(self, keys: DataKeys) -> None: ...
    def sealed(self) -> None: ...
    def unopened(self, why: str) -> None: ...
    def away(self, error: KeysAwayError) -> None: ...
    def back(self) -> None: ...


class NoMeter:
    """For commands: they say themselves what fails."""

    def follow(self, keys: DataKeys) -> None: ...
    def sealed(self) -> None: ...
    def unopened(self, why: str) -> None: ...
    def away(self, error: KeysAwayError) -> None: ...
    def back(self) -> None: ...


class DataKeys:
    """`renew_s`: a data key is used for so long; `max_age_s`: and while the key management is away, at most so long. `clock`:
    monotonic seconds. Methods block, may be called by several threads, and raise KeysAwayError."""

    def __init__(
        self,
        kms: KeyManagement,
        renew_s: float,
        max_age_s: float,
        clock: Callable[[], float],
        meter: KeyMeter | None = None,
    ) -> None:
        self.kms = kms
        self._renew_s = renew_s
        self._max_age_s = max_age_s
        self._clock = clock
        self.meter = meter or NoMeter()
        # Since when they can't be reached, and why.
        self._away: tuple[float, KeysProblem] | None = None
        self._lock = Lock()
        self._current: tuple[float, DataKey] | None = None
        self._again = 0.0
        self._opened: OrderedDict[Wrapped, bytes] = OrderedDict()
        self.meter.follow(self)

    def away_s(self) -> float:
        """For how long the key management was away at each call; 0: the last one reached it."""
        away = self._away
        return 0.0 if away is None else max(self._clock() - away[0], 0.0)

    def problem(self) -> KeysProblem | None:
        """Why the last call could not reach or use the keys; None: it could."""
        away = self._away
        return None if away is None else away[1]

    def reachable(self) -> bool:
        """Whether the key management can be reached now."""
        try:
            self.kms.current()
        except KeysAwayError as error:
            self._missed(error)
            return False
        self._reached()
        return True

    def current(self) -> DataKey:
        """The one to seal with."""
        with self._lock:
            now = self._clock()
            made, key = self._current or (now, None)
            # Also while the key management is away, but never beyond the limit.
            until = min(max(made + self._renew_s, self._again), made + self._max_age_s)
            if key is not None and now < until:
                return key
            try:
                return self._made(now)
            except KeysAwayError as error:
                self._missed(error)
                self._again = now + _PAUSE_S
                if key is not None and now - made < self._max_age_s:
                    return key
                if key is None:
                    raise
                why = f"it is away, and the data key is older than {self._max_age_s:g} s; {error.strerror}"
                raise KeysAwayError(why, error.problem) from error

    def open(self, wrapped: Wrapped) -> bytes:
        """The secret of a data key. Raises LockedError."""
        with self._lock:
            if (secret := self._opened.get(wrapped)) is not None:
                self._opened.move_to_end(wrapped)
                return secret
        try:
            secret = self.kms.unwrap(wrapped)
        except KeysAwayError as error:
            self._missed(error)
            raise
        except LockedError:
            self._reached()
            self.meter.unopened("locked")
            raise
        self._reached()
        with self._lock:
            self._remember(wrapped, secret)
        return secret

    def _missed(self, error: KeysAwayError) -> None:
        away = self._away
        self._away = self._clock() if away is None else away[0], error.problem
        self.meter.away(error)

    def _reached(self) -> None:
        if self._away is not None:
            self._away = None
            self.meter.back()

    def _made(self, now: float) -> DataKey:
        secret = secrets.token_bytes(DATA_KEY_BYTES)
        key = DataKey(self.kms.wrap(secret), secret)
        self._current, self._again = (now, key), 0.0
        self._remember(key.wrapped, secret)
        self._reached()
        return key

    def _remember(self, wrapped: Wrapped, secret: bytes) -> None:
        self._opened[wrapped] = secret
        while len(self._opened) > _REMEMBERED:
            self._opened.popitem(last=False)
