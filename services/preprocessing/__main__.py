"""Runs the preprocessing service: `python -m services.preprocessing`."""

from headrace.hop.serve import run
from services.preprocessing.wiring import SERVICE

if __name__ == "__main__":
    run(SERVICE)
