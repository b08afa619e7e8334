"""The key of a request: what logs, traces, events, outcomes and the console name it by, whatever its caller calls it."""

from __future__ import annotations

import hashlib
import re

MAX_CHARACTERS = 1024
# What is its own key.
TOKEN = re.compile(r"[A-Za-z0-9._:\-]{1,128}\Z")
_OTHERS = re.compile(r"[^A-Za-z0-9._:\-]")
_READABLE_CHARACTERS = 64


def request_key(request_id: str) -> str:
    """The id itself if it is a token of at most 128 letters, digits, `.`, `_`, `:` and `-`; otherwise its beginning, made such a
    token, and a hash. The key of a key is the key itself, so either finds the request; two ids have two keys."""
    if TOKEN.match(request_id):
        return request_id
    digest = hashlib.blake2b(request_id.encode(errors="replace"), digest_size=16).hexdigest()
    return f"{_OTHERS.sub('_', request_id[:_READABLE_CHARACTERS])}.{digest}"
