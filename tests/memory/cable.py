"""A cable between a client and a server that can be cut at any byte."""

import socket
import threading
from contextlib import suppress
from pathlib import Path


class Cable:
    """Listens beside the server's socket and hands on what it hears; `cut_after` bytes from the client it ends both sides."""

    def __init__(self, server: Path, here: Path) -> None:
        self.sent, self.limit, self.server = 0, None, server / ".s.PGSQL.5432"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(here / ".s.PGSQL.5432"))
        self.listener.listen()
        threading.Thread(target=self._take, daemon=True).start()

    def cut_after(self, count: int) -> None:
        """The next `count` bytes of the client still reach the server; no answer to the last of them comes back."""
        self.limit = self.sent + count

    def close(self) -> None:
        """Takes no more connections."""
        self.listener.close()

    def _take(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.server))
            for way in (self._forth, self._back):
                threading.Thread(target=way, args=(client, server), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        while data := self._read(client):
            rest = len(data) if self.limit is None else min(self.limit - self.sent, len(data))
            cut = self.limit is not None and self.sent + rest >= self.limit
            if cut:
                client.shutdown(
                    socket.SHUT_RDWR
                )  # before the server hears the last byte, so that its answer finds nobody
            server.sendall(data[:rest])
            self.sent += rest
            if cut:
                self.limit = None
                break
        self._end(server)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        while data := self._read(server):
            try:
                client.sendall(data)
            except OSError:
                break
        self._end(client)

    @staticmethod
    def _read(source: socket.socket) -> bytes:
        try:
            return source.recv(1 << 16)
        except OSError:
            return b""

    @staticmethod
    def _end(side: socket.socket) -> None:
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
