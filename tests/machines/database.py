"""The PostgreSQL of the machines: what is live, for control alone. It takes no connection without TLS and a password."""

import os
import pwd
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.machines.authority import Authority
from tests.machines.network import Network, entering
from tests.postgres_server import postgres

NAME = "postgres"
_PASSWORD = "of-the-machines"
# As the manifests name them.
_USER, _DATABASE = "headrace", "control"
# Connections of the server's own user come by its socket, which is in a folder that nobody else may enter.
_RULES = "local all all trust\nhostssl all all all scram-sha-256\n"


class Database:
    """A server in a namespace outside the machines, so that it outlives each of them. `address`: of the machines' network."""

    def __init__(self, network: Network, authority: Authority) -> None:
        namespace, self.address = network.pod(0)
        listening = f"listen_addresses={self.address}"
        files = "ssl_cert_file=../tls/tls.crt", "ssl_key_file=../tls/tls.key"
        with ExitStack() as made:
            started = postgres(listening, *files, before=entering(namespace), tls=True)
            self._server = made.enter_context(started)
            self._tls = self._server.folder / "tls"
            _for_the_server(self._tls)
            authority.issue(self._tls, f"{NAME}.headrace.svc", NAME)
            (self._server.folder / "data" / "pg_hba.conf").write_text(_RULES)
            self._execute(
                f"CREATE ROLE {_USER} LOGIN PASSWORD '{_PASSWORD}'",
                f"CREATE DATABASE {_DATABASE} OWNER {_USER}",
                "ALTER SYSTEM SET ssl = on",
                "SELECT pg_reload_conf()",
            )
            self._made = made.pop_all()

    def secrets(self, folder: Path) -> None:
        """Writes what control needs to reach it."""
        (folder / "postgres-password").write_text(_PASSWORD)

    def certify(self, authority: Authority) -> None:
        """It shows another certificate from now on."""
        authority.issue(self._tls, f"{NAME}.headrace.svc", NAME)
        self._execute("SELECT pg_reload_conf()")

    def kill(self) -> None:
        """It is gone at once."""
        self._server.stop(signal.SIGKILL)

    def start(self) -> None:
        """With all that was committed."""
        self._server.start()

    def close(self) -> None:
        self._made.close()

    def _execute(self, *statements: str) -> None:
        with self._server.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _for_the_server(folder: Path) -> None:
    """The group of the user that it runs as reads what is in the folder, also what will be."""
    folder.mkdir()
    os.chown(folder, -1, pwd.getpwnam("nobody").pw_gid)
    folder.chmod(0o2750)
