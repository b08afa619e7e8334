# `make up` and `make test` need Python ≥ 3.11, git and make; all else is installed into .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

generate: ## Generated code from protos/, into its own rooms
	find libs/headrace/api libs/headrace/oip -name '*_pb2*' -delete
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=libs --pyi_out=libs --grpc_python_out=libs $$(cd protos && find headrace -name '*.proto' | sort)
	$(BIN)/python -m grpc_tools.protoc -Iheadrace/oip=protos/inference --python_out=libs --pyi_out=libs --grpc_python_out=libs $$(cd protos/inference && ls *.proto | sed 's|^|headrace/oip/|')
.PHONY: generate
