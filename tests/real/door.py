"""A TCP proxy in front of a real server, to let its endpoint go away while it runs."""

import socket
import threading

from harness import free_port


class Door:
    """A TCP proxy in front of the server that can be shut: connections are refused then."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(inside, self._to), daemon=True).start()

    @staticmethod
    def _serve_one(inside: socket.socket, port: int) -> None:
        """One request and its answer: the agent asks with one connection each time."""
        with inside:
            try:
                with socket.create_connection(("127.0.0.1", port)) as outside:
                    outside.sendall(inside.recv(1 << 16))
                    while data := outside.recv(1 << 16):
                        inside.sendall(data)
            except OSError:
                pass  # the server is gone; so is this connection
