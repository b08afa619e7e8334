"""Where files of events are: a folder, or `s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&scheme=https&region=REGION`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

SUFFIX = ".parquet"
_OPTIONS = ("endpoint_override", "region", "scheme")
_CONNECT_S, _REQUEST_S, _ATTEMPTS = 2.0, 10.0, 2


@dataclass(frozen=True, slots=True)
class Location:
    """`root`: of all files: a folder, or bucket and prefix. `endpoint`, `region`: empty: those of AWS."""

    root: str
    bucket: bool = False
    endpoint: str = ""
    region: str = ""
    scheme: str = "https"

    def file_system(self) -> fs.FileSystem:
        """Keys of a bucket are AWS's own variables and files."""
        if not self.bucket:
            return fs.LocalFileSystem()
        return fs.S3FileSystem(
            endpoint_override=self.endpoint or None,
            scheme=self.scheme,
            region=self.region or None,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
            background_writes=False,
            # One request for a small file.
            allow_delayed_open=True,
        )


def location_of(text: str) -> Location:
    """Raises ValueError; its text never repeats the URL, as somebody may have written a key into it."""
    if "://" not in text:
        return Location(text)
    try:
        parts = urlsplit(text)
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
        raise ValueError("must be a folder or s3://BUCKET/PREFIX")
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
    return Location(f"{parts.netloc}/{prefix}", True, endpoint, options.get("region", ""), scheme)


def why(error: OSError) -> str:
    """What an error of a folder or a bucket says, without addresses and keys."""
    if error.strerror and not isinstance(error, pa.ArrowException):
        return error.strerror.lower()
    text = str(error)
    kind = text.partition("AWS Error ")[2].split(" ")[0] if "AWS Error " in text else ""
    return (
        f"object storage: {kind.lower().replace('_', ' ')}" if kind else "the file can't be read or written"
    )
