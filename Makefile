# `make up` and `make test` need Python ≥ 3.11, git and make; all else is installed into .venv from the hashed lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
UV_LOCK := .venv/uv.lock.txt
CLIENTS := .venv/clients
GPU_TESTS := .venv/.gpu-tests
# They share one running system, one after another; the other tests run beside them.
SYSTEM_TESTS := tests/pipeline tests/workers tests/faults tests/fuzz
PACKAGES := services libs load tests deploy
UV := $(BIN)/uv

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36mmake %-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(STAMP) ## Prepare everything, start the six processes, show a real prediction
	@$(BIN)/headrace up

down: $(STAMP) ## Stop them; nothing is left running
	@$(BIN)/headrace down

test: $(STAMP) $(CLIENTS)/.installed ## All tests (those that need apt packages skip by name where these are absent)
	@$(BIN)/python -m pytest -q $(addprefix --ignore=,$(SYSTEM_TESTS)) > .venv/test.log 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest -q --durations 10 $(SYSTEM_TESTS); system=$$?; \
	wait $$beside; others=$$?; cat .venv/test.log; exit $$((system + others))

gpu-tests: $(GPU_TESTS) ## What tests/gpu runs on without a GPU (a download of 106 MB); CI has it

check: $(STAMP) ## Contracts, lint, types and import rules
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports

generate: $(STAMP) ## Generated code from protos/, into its own rooms
	find libs/headrace/api libs/headrace/oip -name '*_pb2*' -delete
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=libs --pyi_out=libs --grpc_python_out=libs $$(cd protos && find headrace -name '*.proto' | sort)
	$(BIN)/python -m grpc_tools.protoc -Iheadrace/oip=protos/inference --python_out=libs --pyi_out=libs --grpc_python_out=libs headrace/oip/open_inference.proto

lock: ## Resolve the dependencies anew, with hashes and without index addresses
	@test -x $(UV) || $(MAKE) $(STAMP)
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --extra all --group dev pyproject.toml -o requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/clients/requirements.in -o tests/clients/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -c requirements.lock tests/gpu/requirements.in -o tests/gpu/requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@echo "installing into .venv (once, about a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@awk '/^[a-z]/ {keep = /^uv==/} keep' requirements.lock > $(UV_LOCK)
	@test -x $(UV) || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(UV_LOCK)
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(CLIENTS)/.installed: tests/clients/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(CLIENTS)
	@$(UV) pip sync -q --python $(CLIENTS)/bin/python --require-hashes tests/clients/requirements.lock
	@touch $@

# Behind the sync, which takes away what is not in its lock. tensorrt-rtx-cu13 has no wheel; setuptools is there (grpcio-tools).
$(GPU_TESTS): tests/gpu/requirements.lock $(STAMP)
	@$(UV) pip install -q --python $(BIN)/python --no-build-isolation --require-hashes -r tests/gpu/requirements.lock
	@touch $@

.PHONY: help up down test gpu-tests check generate lock
