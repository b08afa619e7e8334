"""Runs the features service: `python -m services.features --config FILE`."""

from headrace.start import service

if __name__ == "__main__":
    service("services.features.wiring:SERVICE")
