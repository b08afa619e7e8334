"""The first thing that a service's process imports: a SIGTERM is obeyed from now on, before anything large is loaded.

Process 1 of a container gets no signal that it has no handler for: a stop right after the start would be ignored until the kill.
(Python's own start comes before this; only an init like catatonit covers that too.)
"""

from __future__ import annotations

import gc
import os
import signal
from importlib import import_module
from typing import NoReturn


def service(definition: str) -> None:
    """Main of a hop service, "module:NAME": `headrace.hop.process.lifecycle.run`, whose handlers take over."""
    program("headrace.hop.process.lifecycle:run", definition)


def program(function: str, *arguments: str) -> None:
    """Imports "module:function" and calls it."""
    signal.signal(signal.SIGTERM, _stop)
    collect_rarely()
    module, _, name = function.partition(":")
    getattr(import_module(module), name)(*arguments)


def collect_rarely() -> None:
    """Has the garbage collector look at 20,000 new containers at once. Python's default of 700 is reached in ten requests, and so
    often by imports, whose objects all stay, that it took a seventh of the processor time of a start."""
    gc.set_threshold(20_000, 20, 20)


def _stop(_number: int, _frame: object) -> NoReturn:
    # Nothing has begun that would have to end first. SystemExit could be caught by a module that tries optional imports.
    os._exit(0)
