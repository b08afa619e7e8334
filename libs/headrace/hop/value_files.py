"""Settings whose values stand in files of their own: `redis_file: /run/secrets/redis` is `redis` with the file's text.

So that a secret, such as an address with a password, is in no document and no variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

_SUFFIX = "_file"


class ValueFileError(Exception):
    """The value of `key` ("idempotency.redis_file") can't be had. The text says why."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


def read_into(kind: type[BaseModel], values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Replaces each key `NAME_file` by `NAME` with the text of that file, without the line's end, if `kind` has a field NAME but
    none of the whole name. Returns the keys ("idempotency.redis") with their texts. Raises ValueFileError.
    """
    read: list[tuple[str, str]] = []
    for key in list(values):
        name = key.removesuffix(_SUFFIX) if isinstance(key, str) else key
        if name != key and key not in kind.model_fields and name in kind.model_fields:
            if name in values:
                raise ValueFileError(f"{above}{key}", f"{name} is set too; leave one of them out")
            values[name] = _text(f"{above}{key}", values.pop(key))
            read.append((f"{above}{name}", values[name]))
        elif key in kind.model_fields and isinstance(values[key], dict):
            for inner in _models(kind.model_fields[key].annotation):
                read += read_into(inner, values[key], f"{above}{key}.")
    return read


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings class of a field that holds one, perhaps or None."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one


def _text(key: str, file: Any) -> str:
    if not isinstance(file, str):
        raise ValueFileError(key, "must be the path of a file")
    try:
        return Path(file).read_text().rstrip("\r\n")
    except OSError as error:
        raise ValueFileError(key, f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:
        # A UnicodeDecodeError would quote the bytes.
        raise ValueFileError(key, f"{file} can't be read: it is not UTF-8, or its path is none") from error
