"""The cluster's name server: a headless Service's name has the address of each ready pod."""

import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from headrace.state import atomic
from tests.children import ends_with_tests
from tests.machines.network import DNS, connect, entering
from tests.system import poll


class Names:
    """dnsmasq on the switch; answers may be a second old, as those of a cluster's DNS may be some."""

    def __init__(self, folder: Path, switch: str) -> None:
        self._known: dict[str, list[str]] = {}
        self._hosts = folder / "hosts"
        self._hosts.write_text("")
        self.resolv = folder / "resolv.conf"
        self.resolv.write_text(f"nameserver {DNS}\noptions timeout:1 attempts:2\n")
        options = ["--keep-in-foreground", "--no-hosts", "--no-resolv", "--local-ttl=1", "--user=root"]
        here = [f"--listen-address={DNS}", f"--addn-hosts={self._hosts}", "--bind-interfaces", "--pid-file="]
        with (folder / "dnsmasq.log").open("w") as log:
            self._process = subprocess.Popen(
                ends_with_tests(*entering(switch), "dnsmasq", "--conf-file=/dev/null", *options, *here),
                stderr=log,
            )
        poll("dnsmasq", lambda: _listens(switch))

    def put(self, name: str, addresses: Iterable[str]) -> None:
        """From now on the name has these addresses and no others."""
        self._known[name] = list(addresses)
        lines = [f"{address} {known}\n" for known, found in self._known.items() for address in found]
        atomic.write(self._hosts, "".join(lines).encode())
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def _listens(switch: str) -> bool:
    try:
        connect(switch, DNS, 53, 0.5).close()
    except OSError:
        return False
    return True
