"""Machines as network namespaces: pods on a machine's bridge, machines on a switch that is a namespace too.

Nothing touches the host's network. Each pod has an address of its own, as in a cluster, so that all can listen on the same port.
"""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

# The name server is the switch's own address.
DNS = "10.77.0.1"
# Addresses of Services; each namespace has a route there, and a rule takes connections to pods before they leave.
SERVICES = "10.78.0.0/16"
_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


class Network:
    """A switch with machines, which have pods. Machine 0 is outside: callers and stores live there."""

    def __init__(self, machines: int) -> None:
        self._prefix = f"hm{os.getpid()}"
        self._made: list[str] = []
        self._pods: dict[int, int] = {}
        self.switch = self._namespace("switch")
        _ip("-n", self.switch, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", self.switch, "addr", "add", f"{DNS}/16", "dev", "bridge0")
        _ip("-n", self.switch, "link", "set", "bridge0", "up")
        self.machines = {number: self._machine(number) for number in range(machines + 1)}

    def pod(self, machine: int) -> tuple[str, str]:
        """A new namespace on a machine and its address."""
        number = self._pods[machine] = self._pods.get(machine, 9) + 1
        address = f"10.77.{machine}.{number}"
        made = self._namespace(f"p{machine}.{number}")
        self._cable(made, "eth0", self.machines[machine], f"pod{number}")
        _ip("-n", made, "addr", "add", f"{address}/16", "dev", "eth0")
        _ip("-n", made, "link", "set", "eth0", "up")
        _ip("-n", made, "route", "add", SERVICES, "dev", "eth0")
        return made, address

    def remove(self, namespace: str) -> None:
        """Ends a pod's network."""
        _ip("netns", "del", namespace)
        self._made.remove(namespace)

    def cut(self, machine: int) -> None:
        """Nothing leaves the machine or reaches it any more, and nobody is told: as when its power goes."""
        _ip("-n", self.switch, "link", "set", f"m{machine}", "nomaster")

    def join(self, machine: int) -> None:
        """The machine is back."""
        _ip("-n", self.switch, "link", "set", f"m{machine}", "master", "bridge0")

    def close(self) -> None:
        for name in reversed(self._made):
            _ip("netns", "del", name)
        self._made.clear()

    def _machine(self, number: int) -> str:
        made = self._namespace(f"m{number}")
        _ip("-n", made, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", made, "link", "set", "bridge0", "up")
        self._cable(self.switch, f"m{number}", made, "uplink")
        _ip("-n", self.switch, "link", "set", f"m{number}", "master", "bridge0")
        _ip("-n", self.switch, "link", "set", f"m{number}", "up")
        return made

    def _cable(self, one: str, at_one: str, bridge: str, at_bridge: str) -> None:
        _ip("link", "add", at_one, "netns", one, "type", "veth", "peer", "name", at_bridge, "netns", bridge)
        _ip("-n", bridge, "link", "set", at_bridge, "master", "bridge0")
        _ip("-n", bridge, "link", "set", at_bridge, "up")

    def _namespace(self, name: str) -> str:
        full = f"{self._prefix}.{name}"
        _ip("netns", "add", full)
        self._made.append(full)
        _ip("-n", full, "link", "set", "lo", "up")
        return full


def entering(namespace: str) -> list[str]:
    """What precedes a command that runs in the namespace; the process stays the same one."""
    return ["nsenter", f"--net={_NAMESPACES / namespace}"]


def within(namespace: str, act: Callable[[], T]) -> T:
    """What `act` returns in a thread of the namespace: sockets that it makes belong there, also afterwards."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with (_NAMESPACES / namespace).open() as file:
                if _libc.setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            found.append(act())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def connect(namespace: str, host: str, port: int, timeout_s: float = 5.0) -> socket.socket:
    """A connection from the namespace to an address. Raises OSError."""
    return within(namespace, lambda: socket.create_connection((host, port), timeout_s))


def choose_of(namespace: str, virtual: str, port: int, addresses: list[str]) -> None:
    """What kube-proxy does for a Service, by IPVS: new connections to `virtual` go to the addresses in turn. None: nowhere.

    In turn, and not by chance as by iptables, so that as many of a test's connections stand at each door.
    """
    rule = ""
    if addresses:
        mapped = ", ".join(f"{i} : {address}" for i, address in enumerate(addresses))
        rule = (
            f"ip daddr {virtual} tcp dport {port} dnat to numgen inc mod {len(addresses)} map {{ {mapped} }}"
        )
    chain = f"type nat hook output priority -100; {rule}"
    text = "\n".join(
        (
            "table ip services",
            "delete table ip services",
            f"table ip services {{ chain out {{ {chain}; }}; }}",
            "",
        )
    )
    _run([*entering(namespace), "nft", "-f", "-"], text)


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: list[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
