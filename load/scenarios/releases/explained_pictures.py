"""Asks the door to explain a picture, again and again, beside the traffic that is measured."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from pathlib import Path

from load.systems.headrace import Running

_PATH = "/headrace.api.inference.v1.InferenceService/Explain"
_TENANT = "load"
_MOST_S = 60.0


class ExplainedPictures:
    """One caller, who asks at once after each answer while it is switched on. `explained`, `failed`: how many were; `seconds`:
    that the explained ones took."""

    def __init__(self, running: Running) -> None:
        # Only this measurement needs it, and it takes a second.
        import skimage

        picture = (Path(skimage.__file__).parent / "data" / "astronaut.png").read_bytes()
        row = {"image": base64.b64encode(picture).decode()}
        self._body = json.dumps({"pipeline": "moderation", "rows": [row]}).encode()
        self._headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {running.keys[_TENANT]}",
            "connect-timeout-ms": str(int(_MOST_S * 1e3)),
        }
        self._url = f"http://{running.target}{_PATH}"
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self.explained = self.failed = 0
        self.seconds = 0.0

    def set(self, *, on: bool) -> None:
        """Begins, or waits until the last one is answered."""
        if on and self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._ask)
            self._thread.start()
        elif not on and self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None

    def back(self) -> None:
        """Ends."""
        self.set(on=False)

    def _ask(self) -> None:
        while not self._end.is_set():
            request = urllib.request.Request(self._url, self._body, self._headers)
            began = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=_MOST_S) as reply:
                    reply.read()
            except OSError:
                self.failed += 1
                self._end.wait(0.1)  # one that is refused at once must not spin
            else:
                self.explained += 1
                self.seconds += time.monotonic() - began
