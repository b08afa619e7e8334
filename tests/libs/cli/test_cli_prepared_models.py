"""What preparations publish while nothing runs is listed by the next `up`, once, and only what the home's key signed."""

from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog.records import CatalogRecords
from headrace.cli.commands.models import prepared_models
from headrace.cli.installation import layout
from headrace.repository import RepositoryError, changes
from headrace.repository.model_index import all_indexes
from tests.libs.repository.signed_models import signed


def test_it_is_listed_once_and_what_is_not_signed_is_left(tmp_path: Path) -> None:
    models, place = signed(tmp_path), layout.of(tmp_path)
    for about in (models.put(key=None), models.put(name="heavy")):
        prepared_models.note(place, about.name, about.version)
    with closing(CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)) as records:
        with pytest.raises(RepositoryError, match="it is not signed"):
            prepared_models.add(place, records)
        assert all_indexes(records).keys() == {"heavy"}
        changes.remove(records, models.root, "heavy", "1", "ann")
        prepared_models.note(place, "light", models.put("2").version)
        assert prepared_models.add(place, records) == ["light version 2"]
        assert prepared_models.add(place, records) == []
        found = {name: [*index.versions] for name, index in all_indexes(records).items()}
    assert found == {"heavy": [], "light": ["2"]}
