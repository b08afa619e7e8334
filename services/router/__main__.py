"""The router's process."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.router.wiring:SERVICE")
