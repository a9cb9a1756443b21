"""Runs of `dailies` that are forked from one warm process, and a wire to a host that kills them at any packet.

As a script it takes a JSON line `{"folder", "arguments", "log"}` and answers with the pid of the run, then with its exit code.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self


class Driver:
    """A process that has imported everything; each run is a fork of it and costs what it does, not what it needs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, env=dict(environment), text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def run(self, folder: Path, *arguments: str, started: Callable[[int], None] = lambda _pid: None) -> int:
        """Its exit code, negative for a signal; `started` is told the pid, which is that of its group."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"folder": str(folder), "arguments": arguments, "log": str(folder / "run.log")}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        started(int(self._process.stdout.readline()))
        return int(self._process.stdout.readline())


class Wire:
    """A TCP proxy that counts what passes. At the chosen packet of either direction it kills a process group; the packet itself
    is lost with the sender or, as it was on its way already, still arrives."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.port = self._server.getsockname()[1]
        self.packets = 0
        self.victim = 0
        self._kill_at = 0
        self._arrives = True
        self._lock = threading.Lock()
        self._open = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def aim(self, at: int, *, arrives: bool) -> None:
        """The next run dies at its `at`-th packet; 0 = never."""
        with self._lock:
            self.packets, self.victim, self._kill_at, self._arrives = 0, 0, at, arrives

    @property
    def is_quiet(self) -> bool:
        """Whether every connection has come to its end."""
        with self._lock:
            return self._open == 0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with self._lock:
                    self._open += 1
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(("127.0.0.1", self._port)) as server:
                other = {client: server, server: client}
                while other:
                    ready, _, _ = select.select(list(other), [], [])
                    for source in ready:
                        data = source.recv(1 << 18)
                        if not data:
                            return
                        if self._passes():
                            other[source].sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= 1

    def _passes(self) -> bool:
        with self._lock:
            self.packets += 1
            if self.packets != self._kill_at:
                return True
            victim = self.victim
        os.killpg(victim, signal.SIGKILL)
        return self._arrives


@contextlib.contextmanager
def driver(environment: Mapping[str, str]) -> Iterator[Driver]:
    with Driver(environment) as found:
        yield found


def main() -> None:
    from dailies import cli, demo, doctor, pipeline, stage  # noqa: F401 -- what a run needs is there before it begins

    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.chdir(order["folder"])
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number in (1, 2):
                os.dup2(log, number)
            with Path(os.devnull).open() as nothing:
                os.dup2(nothing.fileno(), 0)
            code = 3
            try:
                code = cli.main(order["arguments"])
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
