"""Connections that see a stop: a call that is blocked in a socket is cut when its deadline ends. Used by http.py alone."""

import contextlib
import threading
from typing import Any, Final

import urllib3
from requests.adapters import HTTPAdapter

from dailies.body import BLOCK_BYTES
from dailies.clock import Deadline

CONNECT_S: Final = 15.0
READ_S: Final = 900.0  # hosts process an upload before they answer (internetarchive, issue 387)
_LOOK_S: Final = 0.1  # how late a blocked call sees a stop
_SLICE_S: Final = 3.0  # a connection is tried anew this often, so that a stop is seen meanwhile


class Watch:
    """Cuts the connections of one thread's call when its deadline ends: a blocked read would see nothing of a stop."""

    _current = threading.local()

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.was_cut = False
        self._connection: urllib3.connection.HTTPConnection | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="http-watch", daemon=True)

    def __enter__(self) -> "Watch":
        Watch._current.watch = self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        Watch._current.watch = None
        self._ended.set()
        self._thread.join()

    @classmethod
    def of_this_thread(cls) -> "Watch | None":
        return getattr(cls._current, "watch", None)

    def takes(self, connection: urllib3.connection.HTTPConnection) -> None:
        self._connection = connection

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if self.deadline.stop.is_set() or self.deadline.remaining() <= 0:
                self.was_cut = True
                sock = getattr(self._connection, "sock", None)
                if sock is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(2)  # SHUT_RDWR


class _Watched:
    """What both kinds of connection do besides: they are known to the watch, and a stop is seen while they are made."""

    def connect(self) -> None:
        if (watch := Watch.of_this_thread()) is not None:
            watch.takes(self)  # type: ignore[arg-type]
        super().connect()  # type: ignore[misc]
        self.sock.settimeout(READ_S)  # type: ignore[attr-defined] # how long a server may leave a body where it is

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        if (watch := Watch.of_this_thread()) is not None:
            watch.takes(self)  # type: ignore[arg-type]
        super().putrequest(*arguments, **options)  # type: ignore[misc]

    def _new_conn(self) -> Any:
        watch = Watch.of_this_thread()
        vars(self)["timeout"] = _SLICE_S
        for _ in range(int(CONNECT_S / _SLICE_S) - 1):
            with contextlib.suppress(urllib3.exceptions.ConnectTimeoutError):
                return super()._new_conn()  # type: ignore[misc]
            if watch is not None:
                watch.deadline.check()
        return super()._new_conn()  # type: ignore[misc]


class _Connection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _TlsConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """No retries of urllib3's: one that carries a body makes a second copy (facts: four complete uploads of one call)."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002
        super().init_poolmanager(connections, maxsize, block, blocksize=BLOCK_BYTES, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
