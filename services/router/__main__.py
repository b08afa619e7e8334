"""The router's process."""

from headrace.hop.serve import run
from services.router.wiring import SERVICE

if __name__ == "__main__":
    run(SERVICE)
