"""Where a Redis is: one server, those that Sentinels watch, or a cluster, in one text.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]      rediss://…: TLS      unix:///PATH
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]…/NAME[/DATABASE]   NAME: as the Sentinels call the server
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]…

`rediss+…` is the same over TLS. User and password are those of the servers, not of the Sentinels. After an address over TLS may
stand `?ca=FILE&certificate=FILE&key=FILE`, all in PEM: whom to believe in place of the system's authorities, and what to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

_PORTS = {"sentinel": 26379, "cluster": 6379}
FORMS = "redis://HOST:PORT/DATABASE, redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT"


@dataclass(frozen=True, slots=True)
class ManyServers:
    """A Redis of several servers. `master`: as the Sentinels call it; "": a cluster. Its text names no password."""

    places: tuple[tuple[str, int], ...]
    master: str = ""
    database: int = 0
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # Files for TLS, as `tls_options` has them.
    files: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> Mapping[str, Any]:
        """What redis-py's clients take."""
        found: dict[str, Any] = {"username": self.username, "password": self.password}
        if self.master:
            found["db"] = self.database
        return {**found, "ssl": True, **self.files} if self.tls else found


# As settings of this suite call them → as redis-py does.
_FILES = {"ca": "ssl_ca_certs", "certificate": "ssl_certfile", "key": "ssl_keyfile"}


def tls_options(query: str, *, tls: bool) -> dict[str, str]:
    """What redis-py's clients take of a text `ca=FILE&certificate=FILE&key=FILE`. Raises ValueError."""
    try:
        given = {name: values[-1] for name, values in parse_qs(query, strict_parsing=bool(query)).items()}
    except ValueError:
        raise ValueError("what follows the ? of the address can't be read") from None
    for name in sorted(given):
        if name not in _FILES:
            # Not quoted: it may be the rest of a password that has a ? in it.
            raise ValueError(f"what follows the ? of the address may only be: {', '.join(_FILES)}")
        if not tls:
            raise ValueError(f"{name} is for TLS, but the address does not begin with rediss")
    if ("certificate" in given) != ("key" in given):
        raise ValueError("certificate and key belong together; name both or neither")
    return {_FILES[name]: value for name, value in given.items()}


def many_servers(url: str) -> ManyServers | None:
    """The address of Sentinels or a cluster; None: it is another one. Raises ValueError without the text, which may hold a
    password."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not kind:
        return None
    if base not in ("redis", "rediss") or kind not in _PORTS:
        raise ValueError(f"the address begins with neither of {FORMS}")
    rest, _, query = rest.partition("?")
    files = tls_options(query, tls=base == "rediss")
    account, at, rest = rest.rpartition("@")
    hosts, *path = rest.split("/")
    places = tuple(_place(text, _PORTS[kind]) for text in hosts.split(","))
    user, colon, password = account.partition(":")
    if at and not colon:
        raise ValueError("the address has a user without a password")
    tls, account_of = base == "rediss", (unquote(user) or None, unquote(password) or None)
    if kind == "cluster":
        if any(path):
            raise ValueError("a cluster has one database only, so its address has no path")
        return ManyServers(places, "", 0, tls, *account_of, files)
    master, *database = path or [""]
    if not master or len(database) > 1:
        raise ValueError(
            "the address must end with the name that the Sentinels watch: …/NAME or …/NAME/DATABASE"
        )
    number = database[0] if database else "0"
    if not (number.isascii() and number.isdecimal() and len(number) < 6):
        raise ValueError("what follows the name must be the number of a database")
    return ManyServers(places, unquote(master), int(number), tls, *account_of, files)


def _place(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default)
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError("each server must be HOST or HOST:PORT")
    return host.strip("[]"), int(port)
