"""Main of the executor: `python -m services.executor --config executor.yaml`."""

from headrace.start import service

if __name__ == "__main__":
    service("services.executor.wiring:SERVICE")
