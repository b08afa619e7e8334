"""Runs the postprocessing service: `python -m services.postprocessing`."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.postprocessing.wiring:SERVICE")
