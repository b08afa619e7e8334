"""Main of control: `python -m services.control --config control.yaml`."""

from headrace.start import service

if __name__ == "__main__":
    service("services.control.wiring:SERVICE")
