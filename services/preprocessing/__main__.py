"""Runs the preprocessing service: `python -m services.preprocessing`."""

from headrace.start import service

if __name__ == "__main__":
    service("services.preprocessing.wiring:SERVICE")
