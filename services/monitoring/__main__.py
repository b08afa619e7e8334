"""Runs the monitoring service: `python -m services.monitoring`."""

from headrace.hop.process.lifecycle import run

if __name__ == "__main__":
    run("services.monitoring.wiring:SERVICE")
