"""Main of the executor: `python -m services.executor --config executor.yaml`."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.executor.wiring:SERVICE")
