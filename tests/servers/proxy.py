"""What stands between dvlite and a server: distance, faults, and a count of what was asked. HTTP by requests, all else by bytes."""

import contextlib
import http.client
import http.server
import socket
import threading
import time
from typing import NamedTuple

from tests.servers import free_port

_STEP = 1 << 16
_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade")


class Asked(NamedTuple):
    """One request: when it came and when its answer was sent, in seconds."""

    method: str
    path: str
    start: float
    end: float
    status: int


def round_trips(asked):
    """Return how many requests followed one another: the longest chain in which each began after the last was answered."""
    count, free = 0, 0.0
    for one in sorted(asked, key=lambda one: one.end):
        if one.start >= free:
            count, free = count + 1, one.end
    return count


class HttpProxy:
    """Passes HTTP requests on. `delay_s`: the round trip; `fault(method, path, number)` may return one of FAULTS."""

    FAULTS = ("500", "503", "short", "reset", "stall", "403", "flip")  # flip: a byte of what is sent, if it is much

    def __init__(self, target, delay_s=0.0):
        self.target = target
        self.delay_s = delay_s
        self.asked = []
        self.fault = lambda method, path, number: None
        self.lock = threading.Lock()
        self.number = 0
        self.port = free_port()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clear(self):
        """Forget what was asked, and the faults."""
        with self.lock:
            self.asked, self.number = [], 0
        self.fault = lambda method, path, number: None

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None
    upstream = None

    def handle_one_request(self):
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle_one_request()

    def _pass_on(self):
        start = time.monotonic()
        owner = self.owner
        with owner.lock:
            number = owner.number
            owner.number += 1
        fault = owner.fault(self.command, self.path, number)
        time.sleep(owner.delay_s)
        status = self._answer(fault)
        with owner.lock:
            owner.asked.append(Asked(self.command, self.path, start, time.monotonic(), status))

    def _answer(self, fault):
        body = self._body()
        if fault == "flip" and len(body) > 10_000:
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
        if fault in ("500", "503", "403"):
            self._send(
                int(fault), {"Content-Type": "text/plain"}, b"broken on purpose" if self.command != "HEAD" else b""
            )
            return int(fault)
        if fault == "reset":
            self._reset()
            return 0
        if fault == "stall":
            time.sleep(3600)
        status, headers, data = self._ask(body)
        if fault == "short" and data:
            self._send(status, headers, data[: len(data) // 2], claimed=len(data))
            self._reset()
        else:
            self._send(status, headers, data)
        return status

    def _reset(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self):
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, body):
        headers = {key: value for key, value in self.headers.items() if key.lower() not in (*_HOP, "expect")}
        for attempt in range(2):
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection("127.0.0.1", self.owner.target, timeout=120)
            try:
                self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for key, value in headers.items():
                    self.upstream.putheader(key, value)
                if body or self.command in ("PUT", "POST"):
                    self.upstream.putheader("Content-Length", str(len(body)))
                self.upstream.endheaders(body or None)
                answer = self.upstream.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, OSError):
                self.upstream.close()
                self.upstream = None
                if attempt:
                    self._reset()
                    raise ConnectionError("the server is gone") from None
        passed = [(key, value) for key, value in answer.getheaders() if key.lower() not in _HOP]
        if self.command == "HEAD" and (length := answer.getheader("Content-Length")):
            passed.append(("Content-Length", length))
        return answer.status, passed, data

    def _send(self, status, headers, data, claimed=None):
        self.send_response_only(status)
        pairs = headers.items() if isinstance(headers, dict) else headers
        names = {key.lower() for key, _ in pairs}
        for key, value in pairs:
            self.send_header(key, value)
        if "content-length" not in names and status not in (204, 304) and status >= 200:
            self.send_header("Content-Length", str(len(data) if claimed is None else claimed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_OPTIONS = _pass_on
    do_PROPFIND = do_MKCOL = do_MOVE = do_COPY = do_PATCH = _pass_on

    def log_message(self, *arguments):
        pass


class TcpProxy:
    """Passes bytes on, each `delay_s` / 2 later and no faster than `rate` bytes a second; `cut_after` bytes it breaks off."""

    def __init__(self, target, delay_s=0.0, rate=0):
        self.target, self.delay_s, self.rate = target, delay_s, rate
        self.cut_after = 0
        self.is_dying = False  # after a cut, nobody is let in any more
        self.is_dead = False
        self.passed = 0
        self._lock = threading.Lock()  # of the count
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._door = threading.Thread(target=self._accept, daemon=True)
        self._door.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self.listener.accept()
                self.is_dead = self.is_dead and self.is_dying
                if self.is_dead:
                    inner.close()
                    continue
                try:
                    outer = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    inner.close()
                    continue
                for one in (inner, outer):  # before a pipe may close them again
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for one, other in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._pipe, args=(one, other), daemon=True).start()

    def _pipe(self, source, target):
        import queue

        waiting = queue.Queue()

        def send():
            with contextlib.suppress(OSError):
                while True:
                    at, data = waiting.get()
                    time.sleep(max(0.0, at - time.monotonic()))
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)
                    if self.rate:
                        time.sleep(len(data) / self.rate)

        threading.Thread(target=send, daemon=True).start()
        is_cut = False
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(_STEP)
                with self._lock:
                    self.passed += len(data)
                    if self.cut_after and self.passed > self.cut_after:
                        self.cut_after, self.is_dead = 0, self.is_dying
                        is_cut = True
                if is_cut or self.is_dead:
                    for one in (source, target):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                        with contextlib.suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)  # wakes who reads from it
                        one.close()
                    return
                waiting.put((time.monotonic() + self.delay_s / 2, data))
                if not data:
                    return

    def close(self):
        """Let nobody in any more. One who waits at a door that is closed would wait at the next that gets its number."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self._door.join()
        self.listener.close()
