"""Wakes who waits for a change: at once for one of this process, within the polling interval for others'."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headrace.catalog.access import Position
from headrace.catalog.errors import RecordsUnavailableError, Unavailable

POLL_S = 0.2


class Waiters:
    """`read`: the newest position. One thread polls, however many wait, and none where nobody waits."""

    def __init__(self, read: Callable[[], Position], interval_s: float = POLL_S) -> None:
        self._read = read
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._waiting = 0
        self._polling = False
        self._closed = False
        self._newest: Position | RecordsUnavailableError | None = None
        # Polls are counted: the newest that was begun, that has ended, that somebody needs; and changes of this process.
        self._begun = self._ended = self._needed = self._made = 0

    def publish(self, position: Position) -> None:
        """This process made a change."""
        with self._changed:
            self._made += 1
            newest = self._newest
            # Two threads may come in another order than their changes. That the database went back is for the poll to find.
            if isinstance(newest, Position) and (newest.epoch, newest.number) < (
                position.epoch,
                position.number,
            ):
                self._newest = position
                self._changed.notify_all()

    def wait(self, known: Position | None, timeout_s: float) -> Position:
        """The newest position, as soon as it is not `known`; at the latest after `timeout_s`, and one answer of the database."""
        end = time.monotonic() + timeout_s
        with self._changed:
            # What was polled before may be old.
            due = self._needed = self._begun + 1
            self._waiting += 1
            try:
                self._start()
                while not self._closed:
                    newest, fresh = self._newest, self._ended >= due
                    if fresh and isinstance(newest, RecordsUnavailableError):
                        raise RecordsUnavailableError(newest.why, str(newest)) from newest
                    if fresh and isinstance(newest, Position):
                        left_s = end - time.monotonic()
                        if newest != known or left_s <= 0:
                            return newest
                        self._changed.wait(left_s)
                    else:
                        self._changed.wait()
            finally:
                self._waiting -= 1
        raise RecordsUnavailableError(Unavailable.UNREACHABLE, "the records were closed")

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _start(self) -> None:
        self._changed.notify_all()
        if not self._polling and not self._closed:
            self._polling = True
            threading.Thread(target=self._poll, name="records-poll", daemon=True).start()

    def _poll(self) -> None:
        while True:
            with self._changed:
                if self._closed or not self._waiting:
                    self._polling = False
                    return
                self._begun += 1
                begun, made = self._begun, self._made
            found = self._found()
            with self._changed:
                if made != self._made:
                    continue  # it may be older than what this process has written meanwhile
                self._newest, self._ended = found, begun
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._needed > self._ended, self._interval_s)

    def _found(self) -> Position | RecordsUnavailableError:
        try:
            return self._read()
        except RecordsUnavailableError as error:
            return error
        except Exception as error:  # noqa: BLE001  # or they would wait for ever
            text = f"the records can't be read: {type(error).__name__}"
            return RecordsUnavailableError(Unavailable.UNREACHABLE, text)
