"""Everything that knows Feast. Its messages (protobuf) are loaded here without Feast itself, which takes seconds and 140 MB.

A plain registry and an online store that is read directly need the messages alone. What needs Feast's own code imports it then.
"""

from __future__ import annotations

import importlib.util
import sys

_MESSAGES = ("core.Registry_pb2", "types.Value_pb2")


def _load_messages() -> None:
    """Loads Feast's generated code as if the package that holds it were empty; a later `import feast` loads the package.

    Not safe if another thread imports Feast at the same moment: in the service, one thread does both.
    """
    package = importlib.util.find_spec("feast")
    if package is None or "feast" in sys.modules:
        return
    sys.modules["feast"] = importlib.util.module_from_spec(package)
    try:
        for name in _MESSAGES:
            importlib.import_module(f"feast.protos.feast.{name}")
    finally:
        del sys.modules["feast"]


_load_messages()
