"""The indexes of models among the resources."""

from __future__ import annotations

from headrace.repository.errors import RepositoryError
from headrace.repository.model_index import MODEL, Indexes, ModelIndex, index_of
from headrace.resources.follower import Follower


def followed_indexes(follower: Follower | None) -> Indexes | None:
    """As a follower has them; None: nothing is followed."""
    if follower is None:
        return None

    def index(model: str) -> ModelIndex | None:
        if (view := follower.view) is None:
            raise RepositoryError(model, "", "nothing to serve by has come from control yet", "wait for it")
        content = view.snapshot.content(MODEL, model)
        return None if content is None else index_of(model, content)

    return index
