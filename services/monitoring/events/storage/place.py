"""Where object storage is: `s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&scheme=https&region=REGION`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

_OPTIONS = ("endpoint_override", "region", "scheme")


@dataclass(frozen=True, slots=True)
class Place:
    """`path`: bucket and prefix. `endpoint`, `region`: empty: those of AWS."""

    path: str
    endpoint: str = ""
    region: str = ""
    scheme: str = "https"


def place_of(url: str) -> Place:
    """Raises ValueError; its text never repeats the URL, as somebody may have written a key into it."""
    try:
        parts = urlsplit(url)
        options = (
            dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
        )
    except ValueError:
        raise ValueError("is no URL; write s3://BUCKET/PREFIX?endpoint_override=HOST:PORT") from None
    if "@" in parts.netloc:
        raise ValueError(
            "must hold no keys: name their file in AWS_SHARED_CREDENTIALS_FILE, or set AWS_ACCESS_KEY_ID"
        )
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or not prefix or parts.fragment:
        raise ValueError("must be s3://BUCKET/PREFIX")
    if any(name in ("", ".", "..") for name in prefix.split("/")):
        raise ValueError("has a prefix with an empty name, . or ..")
    if not options.keys() <= set(_OPTIONS):
        raise ValueError(f"may have the options {', '.join(_OPTIONS)} and no others")
    scheme = options.get("scheme", "https")
    if scheme not in ("http", "https"):
        raise ValueError("has a scheme that is neither http nor https")
    endpoint = options.get("endpoint_override", "")
    if "@" in endpoint or "/" in endpoint:
        raise ValueError("has an endpoint_override that is not HOST:PORT")
    return Place(f"{parts.netloc}/{prefix}", endpoint, options.get("region", ""), scheme)
