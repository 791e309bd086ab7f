"""One PostgreSQL server on 127.0.0.1 with logical replication on.

Rule 1: data and port are chosen once; stop, kill and start keep both.
Rule 2: `close` ends the server at once and removes a data directory that was made here.
Rule 3: as root the server runs as an account without rights (`postgres`, else `nobody`), which owns the data.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deltaforge.embedded import postgres_probe
from deltaforge.embedded.binaries import copy_install, find_bin_dir, readable_by_others
from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.ports import HOST, free_ports
from deltaforge.embedded.process import ServerProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_S = 60.0
SUPERUSER = "postgres"
# `trust` is right on a loopback port that lives as long as a test; stricter lines go before it.
_HBA = ("local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust")
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "40",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "log_line_prefix": "%m [%p] %a ",
}


class PostgresServer:
    """A server of the given major version; nothing happens before `start`."""

    def __init__(
        self,
        version: int = 18,
        *,
        directory: Path | None = None,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        bin_dir: Path | None = None,
    ) -> None:
        """Choose the port and the directories.

        Args:
          directory: keeps `data` and `postgres.log`, and survives `close`; a temporary one when absent.
          options: settings beyond or instead of ours, written once, so ALTER SYSTEM holds over a restart;
            `wal_level` stays logical.
          hba: lines of pg_hba.conf before ours. A line for `all all` hides ours.
          files: written into the data directory, readable for the server alone (certificates, keys).
        """
        self.version = version
        self.host = HOST
        self.port = port if port is not None else free_ports(1)[0]
        self._bin_dir = bin_dir
        self._options = {**_SETTINGS, **(options or {}), "wal_level": "logical"}
        self._hba = (*hba, *_HBA)
        self._files = dict(files or {})
        self._temporary = directory is None
        self._directory = directory
        self._user = _unprivileged_user()
        self._process: ServerProcess | None = None
        self._abort = threading.Event()

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.running

    @property
    def user(self) -> str:
        """The account it runs as; empty = ours."""
        return self._user

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._running_process().pid

    @property
    def directory(self) -> Path:
        """Holds `data` and `postgres.log`; made on first use."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="deltaforge-pg-"))
        return self._directory

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "postgres.log"

    @property
    def bin_dir(self) -> Path:
        """Where this server's programs are run from."""
        if self._bin_dir is None:
            self._bin_dir = find_bin_dir(self.version)
        return self._bin_dir

    def dsn(self, user: str = SUPERUSER, password: str = "", dbname: str = "postgres", **params: str) -> str:
        """A libpq URL for this server; `params` become its query."""
        return postgres_probe.url(self.host, self.port, user, password, dbname, params)

    def start(self) -> None:
        """Make the cluster on first use, start the server and wait until it takes connections.

        Raises:
          BinariesMissing: no such PostgreSQL here.
          EmbeddedError: it does not start; with the end of its log.
        """
        if self.running:
            return
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._process = ServerProcess(
            f"PostgreSQL {self.version}",
            [str(self.bin_dir / "postgres"), "-D", str(self.data), "-p", str(self.port)],
            self.log,
            death_signal=signal.SIGQUIT,
            user=self._user,
            cleanup=self.directory if self._temporary else None,
            environment=self._environment(),
        )
        process = self._process
        wait_until(lambda: postgres_probe.ready(self.port), [process], self._abort, START_S, process.name)

    def stop(self, *, immediate: bool = False, grace_s: float = 30.0) -> None:
        """Stop with a checkpoint (fast) or without one (immediate: crash recovery at the next start)."""
        if self._process is not None:
            self._process.stop(signal.SIGQUIT if immediate else signal.SIGINT, grace_s)
        self._process = None

    def kill(self) -> None:
        """End the postmaster and its backends with SIGKILL: what a machine that loses power leaves behind."""
        self._running_process().kill()
        self._process = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start on the same port and data."""
        self.stop(immediate=immediate)
        self.start()

    def reload(self) -> None:
        """Make the server read its configuration files again."""
        self._running_process().send_signal(signal.SIGHUP)

    def abort(self) -> None:
        """Make a `start` that is waiting in another thread give up."""
        self._abort.set()

    def close(self) -> None:
        """Stop at once; remove the directory when it is a temporary one."""
        self.stop(immediate=True, grace_s=5.0)
        if self._temporary and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running_process(self) -> ServerProcess:
        if self._process is None or not self._process.running:
            raise EmbeddedError(f"PostgreSQL {self.version} is not running")
        return self._process

    def _environment(self) -> dict[str, str]:
        # Nothing named PG* or LC_*: the server must not depend on who starts it.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(self.directory, self._user)
            if not all(parent.stat().st_mode & 0o001 for parent in self.directory.resolve().parents):
                raise EmbeddedError(
                    f"the account {self._user!r}, which PostgreSQL runs as, cannot reach {self.directory}",
                    hint="choose a directory whose parents others may enter, or do not run as root",
                )
            if not readable_by_others(self.bin_dir):
                self._bin_dir = copy_install(self.bin_dir, self.directory / "install")
        self._run_initdb()
        settings = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in self._options.items())
        self._write("postgresql.auto.conf", settings.encode())
        self._write("pg_hba.conf", "".join(f"{line}\n" for line in self._hba).encode())
        for name, content in self._files.items():
            self._write(name, content)

    def _run_initdb(self) -> None:
        command = [str(self.bin_dir / "initdb"), "-D", str(self.data), "-U", SUPERUSER, "--auth=trust", "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C"]
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=self._environment(),
            user=self._user or None,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"initdb of PostgreSQL {self.version} failed:\n{done.stdout.decode(errors='replace')}")

    def _write(self, name: str, content: bytes) -> None:
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        if self._user:
            shutil.chown(path, self._user)


def _unprivileged_user() -> str:
    """The account to run the server as; empty when this process is not root."""
    if os.geteuid() != 0:
        return ""
    for name in (SUPERUSER, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no account `postgres` or `nobody`",
        hint="run as an ordinary user",
    )


def _quoted(value: str) -> str:
    return value.replace("'", "''")
