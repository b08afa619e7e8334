"""Runs the preprocessing service: `python -m services.preprocessing`."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.preprocessing.wiring:SERVICE")
