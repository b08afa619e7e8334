"""Runs the postprocessing service: `python -m services.postprocessing`."""

from headrace.hop.serve import run
from services.postprocessing.wiring import SERVICE

if __name__ == "__main__":
    run(SERVICE)
