"""Runs the features service: `python -m services.features --config FILE`."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.features.wiring:SERVICE")
