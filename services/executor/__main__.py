"""Main of the executor: `python -m services.executor --config executor.yaml`."""

from headrace.hop.serve import run
from services.executor.wiring import SERVICE

if __name__ == "__main__":
    run(SERVICE)
