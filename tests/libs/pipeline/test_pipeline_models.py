"""What the router and the ingress tell each other of models is read as it was written."""

import pytest

from headrace.api.executor.v1 import executor_pb2
from headrace.api.inference.v1 import inference_pb2
from headrace.api.router.v1 import router_pb2
from headrace.pipeline import (
    IndexedModel,
    ModelState,
    ModelUse,
    read_index,
    read_model_uses,
    write_index,
    write_model_uses,
)

USES = [
    ModelUse("m", "light", "3", "ff", "remote:edge", True, True),
    ModelUse("n", "heavy", "1", "ee", "cuda"),
]


@pytest.mark.parametrize("message", [router_pb2.Decision(), inference_pb2.PredictResponse()])
def test_models_that_took_part_are_read_as_they_were_written(
    message: router_pb2.Decision | inference_pb2.PredictResponse,
) -> None:
    write_model_uses(USES, message.models)
    assert read_model_uses(message.models) == USES


def test_each_field_of_the_message_is_written() -> None:
    message = router_pb2.Decision()
    write_model_uses(USES[:1], message.models)
    fields = {field.name for field, _ in message.models[0].ListFields()}
    assert fields == {f.name for f in router_pb2.ModelUse.DESCRIPTOR.fields}


def test_versions_in_the_repository_are_read_as_they_were_written() -> None:
    message = router_pb2.IndexModelsResponse()
    models = [IndexedModel("m", str(state.value), state, "half") for state in ModelState]
    write_index(models, message.models)
    assert read_index(message.models) == models
    assert {m.state for m in message.models} == set(executor_pb2.ModelState.values()) - {0}


def test_states_are_numbered_as_in_the_contract() -> None:
    numbers = {f"MODEL_STATE_{state.name}": state.value for state in ModelState}
    assert numbers | {"MODEL_STATE_UNSPECIFIED": 0} == dict(executor_pb2.ModelState.items())


def test_a_state_that_is_not_known_is_not_loaded() -> None:
    assert ModelState(0) is ModelState(99) is ModelState.UNLOADED
