"""Connections that see a stop: a call that is blocked in a socket is cut when its deadline ends.

http.py is made of it; those who speak something else than HTTP only `dial` by it.
"""

import contextlib
import errno
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import wait_for_write

from dailies.body import BLOCK_BYTES
from dailies.clock import Deadline

CONNECT_S: Final = 15.0
READ_S: Final = 900.0  # hosts process an upload before they answer (internetarchive, issue 387)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_OLD: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10")))  # said to be global
_LOOK_S: Final = 0.1  # how late a blocked call sees a stop


class Watch:
    """Cuts the connection of one thread's exchange when its deadline ends: a blocked read would see nothing of a stop.

    It holds the connection by a descriptor of its own, which stays good while TLS is put around the socket and where
    http.client has given the socket away to the answer, and which nobody closes (and opens for something else) meanwhile.
    """

    _current = threading.local()

    def __init__(self, deadline: Deadline, *, is_public_only: bool = False) -> None:
        self.deadline = deadline
        self.is_public_only = is_public_only
        self.was_cut = False
        self._held: socket.socket | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Watch":
        Watch._current.watch = self
        _LOOKOUT.begins(self)
        return self

    def __exit__(self, *_: object) -> None:
        Watch._current.watch = None
        _LOOKOUT.ends(self)
        with self._lock:
            self._let_go()

    @classmethod
    def of_this_thread(cls) -> "Watch | None":
        return getattr(cls._current, "watch", None)

    def takes(self, sock: socket.socket) -> None:
        held = socket.fromfd(sock.fileno(), sock.family, sock.type)
        with self._lock:
            self._let_go()
            self._held = held

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def look(self) -> None:
        if self.deadline.stop.is_set() or self.deadline.remaining() <= 0:
            with self._lock, contextlib.suppress(OSError):
                if self._held is not None:
                    self.was_cut = True
                    self._held.shutdown(socket.SHUT_RDWR)


class _Lookout:
    """One thread for all watches at a time, as one for each costs as much as a small answer; it ends with the last of them."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def begins(self, watch: Watch) -> None:
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                self._ended = threading.Event()
                self._thread = threading.Thread(target=self._look, args=(self._ended,), name="http-watch", daemon=True)
                self._thread.start()

    def ends(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)
            if self._watches or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._ended.set()
        thread.join()

    def _look(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_S):
            with self._lock:
                watches = list(self._watches)
            for watch in watches:
                watch.look()


_LOOKOUT: Final = _Lookout()


class _Watched:
    """What both kinds of connection do besides: they are known to the watch, and a stop is seen while they are made."""

    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._is_patient()

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        watch = Watch.of_this_thread()
        if watch is not None and self.sock is not None:
            watch.takes(self.sock)
        self._is_patient()
        super().putrequest(*arguments, **options)  # type: ignore[misc]

    def _is_patient(self) -> None:
        """How long a server may leave a body where it is; urllib3 would hold the time for connecting against it."""
        if self.sock is not None:
            self.sock.settimeout(READ_S)

    def _new_conn(self) -> socket.socket:
        watch = Watch.of_this_thread()
        assert watch is not None, "connections are made by http.py, which watches them"
        host: str = vars(self)["_dns_host"]
        sock = dial(
            host.strip("[]"),
            vars(self)["port"],
            vars(self)["socket_options"] or (),
            watch.deadline,
            is_public_only=watch.is_public_only,
        )
        watch.takes(sock)
        return sock


class PrivateAddress(Exception):
    """A name that outsiders gave leads to this machine or its network."""


def is_public(address: str) -> bool:
    """Whether an address of the internet: no loopback, link-local, private, shared or multicast one, however it is wrapped."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if any(ip in network for network in _OLD):
            return False
    return ip.is_global and not ip.is_multicast


def leads_outside(host: str) -> bool:
    """Whether every address of a name, as this machine knows them, is public; of none that is known, nothing is."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True  # only the proxy knows this name
    return all(is_public(str(address[0])) for *_, address in found)


def is_proxied(url: str) -> bool:
    """Whether the environment names a proxy for it."""
    return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) is not None


def dial(
    host: str, port: int, options: Iterable[tuple[int, int, int]], deadline: Deadline, *, is_public_only: bool = False
) -> socket.socket:
    """socket.create_connection that sees a stop while it waits, but not while the name is looked up.

    Raises OSError, UnicodeError for what can be no name, PrivateAddress, and the deadline's error.
    """
    trouble: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # here and not before the name was looked up: it may lead elsewhere a second time
        if is_public_only and not is_public(str(address[0])):
            raise PrivateAddress(host)
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in options:
                sock.setsockopt(*option)
            _reach(sock, address, deadline)
        except OSError as error:
            trouble = error
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return sock
        if sock is not None:
            sock.close()
    raise trouble or OSError(errno.EHOSTUNREACH, "the name has no address")


def _reach(sock: socket.socket, address: Any, deadline: Deadline) -> None:
    until = time.monotonic() + CONNECT_S
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(address)
    while not wait_for_write(sock, min(_LOOK_S, deadline.remaining())):
        deadline.check()
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))
    sock.settimeout(CONNECT_S)  # TLS and proxies have their say next


class _Connection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _TlsConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS: Final = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """No retries of urllib3's: one that carries a body makes a second copy (facts: four complete uploads of one call)."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002
        super().init_poolmanager(connections, maxsize, block, blocksize=BLOCK_BYTES, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, blocksize=BLOCK_BYTES, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class Session(requests.Session):
    """Of one thread. It asks nobody but the address it is given: no ~/.netrc, no redirects, no retries."""

    def __init__(self) -> None:
        super().__init__()
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())
        self.auth = _as_it_is
        self._origins: dict[str, tuple[requests.PreparedRequest, Any] | None] = {}  # by which way each is asked: None by a proxy

    def get_plainly(self, url: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> requests.Response:
        """A GET that needs nothing of what requests puts around one, which costs more than the GET. Raises urllib3's errors too."""
        there = urllib3.util.parse_url(url)._replace(auth=None, fragment=None)
        origin = there._replace(path="/", query=None).url
        if origin not in self._origins:
            settings = self.merge_environment_settings(url, {}, True, None, None)
            is_direct = requests.utils.select_proxy(url, settings["proxies"]) is None
            self._origins[origin] = (requests.Request("GET", origin).prepare(), settings["verify"]) if is_direct else None
        way = self._origins[origin]
        if way is None:
            return self.get(url, headers=dict(headers), timeout=timeout, allow_redirects=False, stream=True)
        adapter = self.get_adapter(url)
        assert isinstance(adapter, HTTPAdapter)
        pool = adapter.get_connection_with_tls_context(way[0], way[1])
        assert isinstance(pool, urllib3.HTTPConnectionPool)
        answer = requests.Response()
        answer.raw = pool.urlopen(
            "GET",
            there.request_uri,
            headers={"Accept": "*/*", **headers},
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        answer.status_code, answer.url = answer.raw.status, url
        answer.headers.update(answer.raw.headers)
        return answer

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: else requests looks where a redirect leads, and reads the whole of its answer, even where it does not follow."""


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Instead of a look into ~/.netrc. A body of no bytes has a length too: requests would send it in chunks besides."""
    if "Content-Length" in request.headers:
        request.headers.pop("Transfer-Encoding", None)
    return request
