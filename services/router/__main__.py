"""The router's process."""

from headrace.start import service

if __name__ == "__main__":
    service("services.router.wiring:SERVICE")
