"""Runs the postprocessing service: `python -m services.postprocessing`."""

from headrace.start import service

if __name__ == "__main__":
    service("services.postprocessing.wiring:SERVICE")
