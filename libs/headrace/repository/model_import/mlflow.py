"""Models from an MLflow registry, over its REST interface.

Four GET requests and a download. The `mlflow` package would bring about ninety others (Flask, SQLAlchemy, pandas, Docker's
client …), and version limits on protobuf and cryptography, into the process that signs models.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from headrace.repository.errors import RepositoryError
from headrace.repository.names import check_name
from headrace.repository.storage.store import open_store

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_TIMEOUT_S = 60.0
_MAX_JSON_BYTES = 16 << 20
_PROXIED = "mlflow-artifacts:/"
# The kinds of URL that a server may name for files: never files of this machine.
_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hdfs")


@dataclass(frozen=True, slots=True)
class Imported:
    """An ONNX model from a registry: its bytes, metrics and origin."""

    name: str
    version: str
    content: bytes
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]


class Registry:
    """An MLflow server. `token`: sent as a bearer token; the URL may contain a user and password instead."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RepositoryError(
                "", "", f"{url!r} is no address of an MLflow server", "as http://localhost:5000"
            )
        self._parts = parts
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{parts.username}:{parts.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"

    def fetch(self, reference: str) -> Imported:
        """The model of `models:/NAME/VERSION` or `models:/NAME@ALIAS`. Raises RepositoryError."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            problem = f"{reference!r} names no registered model"
            raise RepositoryError("", "", problem, "as models:/NAME/VERSION or models:/NAME@ALIAS")
        try:
            return self._fetch(match)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"MLflow's answer lacks what it should have ({error!r})"
            raise RepositoryError("", "", problem, "it is known to work with MLflow 3") from error

    def _fetch(self, match: re.Match[str]) -> Imported:
        if match["alias"]:
            found = self._api("registered-models/alias", name=match["name"], alias=match["alias"])
        else:
            found = self._api("model-versions/get", name=match["name"], version=match["version"])
        about = found["model_version"]
        name, version = str(about["name"]), str(about["version"])
        place = str(self._api("model-versions/get-download-uri", name=name, version=version)["artifact_uri"])
        run = self._run(about)
        lineage = {
            "imported_from": f"{self._parts.scheme}://{self._parts.hostname}",
            "mlflow": {"name": name, "version": version, "run_id": about.get("run_id", "")},
            "parameters": {p["key"]: p["value"] for p in run.get("params", [])},
        }
        metrics = {m["key"]: float(m["value"]) for m in run.get("metrics", [])}
        return Imported(name, version, self._model(place), metrics, lineage)

    def _run(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        if not about.get("run_id"):
            return {}
        data: Mapping[str, Any] = self._api("runs/get", run_id=about["run_id"])["run"]["data"]
        return data

    def _model(self, place: str) -> bytes:
        """The bytes of the ONNX file that the model's MLmodel file names."""
        import yaml

        try:
            described = yaml.safe_load(self._artifact(place, "MLmodel"))
            file = described["flavors"]["onnx"]["data"]
        except (yaml.YAMLError, KeyError, TypeError):
            problem = f"the model at {place} has no ONNX flavour"
            raise RepositoryError("", "", problem, "log it with mlflow.onnx.log_model") from None
        return self._artifact(place, check_name("file", str(file)))

    def _artifact(self, place: str, file: str) -> bytes:
        if place.startswith(_PROXIED):
            path = urlsplit(place).path.strip("/")
            return self._get(f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}/{quote(file)}", None)
        if urlsplit(place).scheme not in _STORES:
            problem = f"its files lie in {place}, which is the server's own"
            raise RepositoryError(
                "", "", problem, "start the server with --serve-artifacts, or add the file itself"
            )
        try:
            return open_store(place).read(file)
        except OSError as error:
            raise RepositoryError(
                "", "", f"can't read {file} at {place} ({error})", "check its rights"
            ) from error

    def _api(self, method: str, **query: str) -> Any:
        path = f"/api/2.0/mlflow/{method}?{urlencode(query)}"
        try:
            return json.loads(self._get(path, _MAX_JSON_BYTES))
        except ValueError as error:
            raise RepositoryError(
                "", "", f"{method} answered no JSON", "is this an MLflow server?"
            ) from error

    def _get(self, path: str, limit: int | None) -> bytes:
        host, port = str(self._parts.hostname), self._parts.port
        if self._parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._parts.path.rstrip("/") + path, headers=self._headers)
            answer = connection.getresponse()
            # Redirects are not followed: they would send the credentials to another server.
            content = answer.read() if limit is None else answer.read(limit)
        except (OSError, http.client.HTTPException) as error:
            problem = f"the MLflow server at {host} can't be reached ({error})"
            raise RepositoryError("", "", problem, "check the address") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise RepositoryError(
                "", "", _refusal(answer.status, content), "check name, version and credentials"
            )
        return content


def _refusal(status: int, content: bytes) -> str:
    try:
        said = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        said = http.client.responses.get(status, "")
    return f"MLflow answered {status}: {said[:200]}"
