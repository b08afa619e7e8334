"""Runs the features service: `python -m services.features --config FILE`."""

from headrace.hop.serve import run
from services.features.wiring import SERVICE

if __name__ == "__main__":
    run(SERVICE)
