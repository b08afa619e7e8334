"""A real object store, and PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.libs.catalog.conftest import one_database, postgres_address, postgres_server
from tests.object_server import ObjectServer

__all__ = ["one_database", "postgres_address", "postgres_server"]


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("objects"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(made.credentials))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            made.start()
            yield made
        finally:
            made.kill()
