"""Plain repositories are read without Feast, and what is read is what Feast itself would read."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.features.feast import layout
from services.features.feast.messages import FeatureView
from services.features.feast.repository import Repository, read_repository
from services.features.plan.plan import ServicePlan
from services.features.stores.online_store import StoreError
from services.features.stores.registry import open_feast
from tests.services.features.calling import SQLITE
from tests.services.features.conftest import create_repo

from feast import FeatureStore  # isort: skip
from feast.feature_view import FeatureView as FeastView  # isort: skip
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name  # isort: skip
from feast.infra.online_stores.redis import RedisOnlineStore  # isort: skip
from feast.infra.online_stores.sqlite import SqliteOnlineStore  # isort: skip
from feast.repo_config import load_repo_config  # isort: skip
from feast.types import PrimitiveFeastType  # isort: skip

# Plans a repository, says which heavy packages that loaded, and then loads Feast, which must still work.
ALONE = """
import sys
from pathlib import Path
from services.features import wiring
from services.features.stores.registry import open_feast
registry, _ = open_feast(Path(sys.argv[1]), None, 0.05)
print(*sorted(registry.plans()))
print(*[name for name in ("feast", "pandas", "pyarrow", "dask") if name in sys.modules])
from feast import FeatureStore
print(*sorted(one.name for one in FeatureStore(sys.argv[1]).list_feature_services()))
"""


def redis(address: str, **more: str) -> dict[str, Any]:
    return {"registry": "r.db", "online_store": {"type": "redis", "connection_string": address, **more}}


YAMLS: dict[str, dict[str, Any]] = {
    "whole": {"registry": {"path": "registry.db", "cache_ttl_seconds": 0}, "online_store": SQLITE},
    "path only": {"registry": "elsewhere/registry.db", "online_store": {"type": "sqlite"}},
    "absolute": {"registry": "/srv/r.db", "online_store": {"type": "sqlite", "path": "/srv/online.db"}},
    "defaults": {"registry": "r.db"},
    "type only": {"registry": "r.db", "online_store": "redis"},
    "redis": redis("one:6379,two:6380,db=3,ssl=true,password=a=b"),
    "sentinel": redis("s1:26379", redis_type="redis_sentinel", sentinel_master="m"),
    "versions": {"registry": {"path": "r.db", "enable_online_feature_view_versioning": True}},
    "variable": redis("${HEADRACE_TEST_REDIS}"),
    "older keys": {"registry": "r.db", "entity_key_serialization_version": 2},
}


def written(folder: Path, content: dict[str, Any]) -> Path:
    whole = {"project": "small", "provider": "local", **content}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(whole))
    return folder


def plans(repo: Path) -> Mapping[str, ServicePlan]:
    with ThreadPoolExecutor(1) as threads:
        registry, _ = open_feast(repo, threads, 0.05)
        return registry.plans()


@pytest.mark.parametrize("content", YAMLS.values(), ids=YAMLS.keys())
@pytest.mark.filterwarnings("ignore:The serialization version below 3:DeprecationWarning")
def test_settings_are_read_as_feast_reads_them(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_TEST_REDIS", "by-name:6379,db=1")
    ours = read_repository(written(tmp_path, content))
    theirs = load_repo_config(tmp_path, tmp_path / "feature_store.yaml")
    assert (ours.project, ours.key_version) == (theirs.project, theirs.entity_key_serialization_version)
    assert ours.online_type == theirs.online_store.type
    assert ours.registry_file == tmp_path / theirs.registry.path
    if ours.online_type == "sqlite":
        assert str(layout.sqlite_path(ours)) == SqliteOnlineStore._get_db_path(theirs)
    else:
        online = theirs.online_store
        assert layout.redis_nodes(ours) == RedisOnlineStore._parse_connection_string(online.connection_string)
        assert ours.online.get("redis_type", "redis") == online.redis_type.value
        assert ours.online.get("sentinel_master", "mymaster") == online.sentinel_master


@pytest.mark.parametrize(
    "registry",
    [
        {"registry_type": "sql", "path": "sqlite:///r.db"},
        "s3://bucket/registry.db",
        {"path": "r.db", "registry_store_type": "S3RegistryStore"},
    ],
)
def test_a_registry_that_is_no_file_is_left_to_feast(registry: object, tmp_path: Path) -> None:
    assert read_repository(written(tmp_path, {"registry": registry})).registry_file is None


@pytest.mark.parametrize(
    "text",
    ["", "- a list\n", "registry: r.db\n", "project: p\n", "project: [\n", "project: p\nregistry: 7\n"],
)
def test_a_file_that_describes_no_repository_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(text)
    with pytest.raises(StoreError, match="can't open the feature store"):
        read_repository(tmp_path)


def test_names_fields_and_types_are_feasts() -> None:
    for stored, feature in (("planes", "seats"), ("é", "漢"), ("v_v2", "")):
        assert layout.field_of(stored, feature) == _mmh3(f"{stored}:{feature}")
    fields = {kind.name: layout.field_of_type(kind.to_value_type().value) for kind in PrimitiveFeastType}
    assert {name: field for name, field in fields.items() if field} == {
        "FLOAT64": "double_val",
        "FLOAT32": "float_val",
        "INT64": "int64_val",
        "INT32": "int32_val",
        "BOOL": "bool_val",
        "STRING": "string_val",
        "BYTES": "bytes_val",
        "UNIX_TIMESTAMP": "unix_timestamp_val",
    }


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("version", [0, 1, 7])
def test_a_views_stored_name_is_feasts(enabled: bool, version: int) -> None:
    view = FeatureView()
    view.spec.name, view.meta.current_version_number = "planes", version
    repository = Repository.model_validate(
        {"folder": Path(), "project": "p", "registry": {"enable_online_feature_view_versioning": enabled}}
    )
    theirs = compute_versioned_name(FeastView.from_proto(view), enabled)
    assert layout.stored_name(view, repository) == theirs


def test_a_plain_repository_needs_no_feast(sqlite_repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, sqlite_repo],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["aliased lists small", "", "aliased lists small"]


def test_a_registry_in_a_database_has_the_same_plans(tmp_path: Path, sqlite_repo: Path) -> None:
    (tmp_path / "repo").mkdir()
    store = create_repo(tmp_path / "repo", SQLITE)
    path = tmp_path / "repo" / "feature_store.yaml"
    content = yaml.safe_load(path.read_text())
    content["registry"] = {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/registry.sqlite"}
    path.write_text(yaml.safe_dump(content))
    other = FeatureStore(repo_path=str(path.parent))
    other.apply([*store.list_entities(), *store.list_feature_views(), *store.list_feature_services()])
    assert plans(path.parent) == plans(sqlite_repo)


def test_an_emptied_registry_is_no_registry_without_services(tmp_path: Path) -> None:
    create_repo(tmp_path, SQLITE)
    (tmp_path / "registry.db").write_bytes(b"")
    with pytest.raises(StoreError, match="is empty"):
        plans(tmp_path)
