"""Where doors of several machines share limits of tenants."""

from __future__ import annotations

from pydantic import PositiveFloat

from headrace.hop.config import Settings


class Sharing(Settings):
    """Without `redis` the doors of each machine count for themselves."""

    # Such as redis://HOST:6379/0; redis+sentinel://HOST:26379,HOST:26379/MASTER; redis+cluster://HOST:6379,HOST:6379.
    redis: str = ""
    # An exchange that takes longer is given up. No request waits for it.
    timeout_s: PositiveFloat = 0.25
