"""Commands in processes of their own, forked from one that has imported the program: as a user's, without the start of Python.

The one that forks never runs a command and has no threads, so that what it hands on is what a fresh process would have.
"""

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

_HEAD = struct.Struct(">I")
# What the interpreter looks at when it starts: where one of these is set otherwise, it must really start.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC")


def _at_start(env):
    return {key: value for key, value in env.items() if key.startswith(_AT_START)}


class Commands:
    """Starts the forking process when it is first needed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._place = ""
        self._process = None
        self._started_with = {}

    def can_run(self, env):
        """Tell whether a command with this environment may be forked."""
        with self._lock:
            if self._process is None:
                self._started_with = _at_start(os.environ)
        return _at_start(env) == self._started_with

    def _start(self):
        with self._lock:
            if self._process is None:
                folder = tempfile.mkdtemp(prefix="dvlite-commands-")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                self._place = os.path.join(folder, "socket")
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.commands", self._place],
                    stdin=subprocess.PIPE,
                    cwd=os.path.dirname(os.path.dirname(__file__)),
                )
                end = time.monotonic() + 60
                while not os.path.exists(self._place) and time.monotonic() < end:
                    time.sleep(0.01)

    def run(self, arguments, folder, env, timeout):
        """Run a command; return what subprocess.run would."""
        self._start()
        told = {
            "arguments": [os.fsencode(one).hex() for one in arguments],
            "folder": os.fsencode(folder).hex(),
            "env": {os.fsencode(key).hex(): os.fsencode(value).hex() for key, value in env.items()},
        }
        data = json.dumps(told).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self._place)
            socket.send_fds(sock, [_HEAD.pack(len(data))], [out.fileno(), err.fileno()])
            sock.sendall(data)
            process = int(_exactly(sock, 10))
            sock.settimeout(timeout)
            try:
                code = int(_exactly(sock, 10))
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                text = file.read().decode(errors="surrogateescape")
                texts.append(text.replace("\r\n", "\n").replace("\r", "\n"))
        return subprocess.CompletedProcess(list(arguments), code, *texts)


def _exactly(sock, size):
    found = b""
    while len(found) < size:
        step = sock.recv(size - len(found))
        if not step:
            raise ConnectionError("the command's process is gone")
        found += step
    return found


# ---- the process that forks -----------------------------------------------------------------------------------------


def _serve(place):
    import importlib
    import pkgutil

    for package in ("cli", "ops", "git", "worktree", "stores.local"):
        found = importlib.import_module(f"dvlite.{package}")
        for one in pkgutil.iter_modules(found.__path__):
            importlib.import_module(f"dvlite.{package}.{one.name}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}.new")
    listener.listen(64)
    os.rename(f"{place}.new", place)
    # It ends with the one that started it, whose end of this pipe closes then.
    os.set_blocking(0, False)
    listener.settimeout(1)
    while True:
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            with contextlib.suppress(BlockingIOError):
                if os.read(0, 1) == b"":
                    return
            continue
        if os.fork() == 0:
            listener.close()
            sock.settimeout(None)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _watch(sock)
            finally:
                os._exit(0)
        sock.close()


def _watch(sock):
    head, fds, _, _ = socket.recv_fds(sock, _HEAD.size, 2)
    told = json.loads(_exactly(sock, _HEAD.unpack(head)[0]))
    process = os.fork()
    if process == 0:
        sock.close()
        _become(told, fds)
    sock.sendall(f"{process:10}".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    sock.sendall(f"{code:10}".encode())


def _become(told, fds):
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for target, fd in ((0, null), (1, fds[0]), (2, fds[1])):
            os.dup2(fd, target)
        os.closerange(3, 64)
        os.environb.clear()
        os.environb.update({bytes.fromhex(key): bytes.fromhex(value) for key, value in told["env"].items()})
        os.chdir(bytes.fromhex(told["folder"]))
        sys.argv = ["dvlite", *(os.fsdecode(bytes.fromhex(one)) for one in told["arguments"])]
        from dvlite.__main__ import main

        try:
            code = main() or 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
