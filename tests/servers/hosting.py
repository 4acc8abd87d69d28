"""OpenSSH's SFTP, and Git over HTTP."""

import contextlib
import getpass
import http.server
import os
import subprocess
import threading

from tests.servers import Server, listens, program, running, wait_until

SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey "{folder}/ssh/host"
AuthorizedKeysFile "{folder}/ssh/user.pub"
PidFile "{folder}/ssh/pid"
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
MaxStartups 100
MaxSessions 100
"""


@contextlib.contextmanager
def sftp(folder, port):
    """A server for this user alone, by a key of its own; its files lie in `folder`/home."""
    sshd = program("sshd", "Debian's openssh-server")
    for name in ("ssh", "home"):
        (folder / name).mkdir(exist_ok=True)
    for name in ("host", "user"):
        if not (folder / "ssh" / name).exists():
            keygen = program("ssh-keygen", "Debian's openssh-client")
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / "ssh" / name], check=True)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    (folder / "ssh/config").write_text(SSHD.format(folder=folder, port=port))
    with running(sshd, "-D", "-e", "-f", folder / "ssh/config", log=folder / "ssh/log") as server:
        wait_until(lambda: listens(port), "sshd", server=server)
        options = {
            "key_filename": str(folder / "ssh/user"),
            "port": port,
            "username": getpass.getuser(),
            "host_key_policy": "auto_add",
        }
        yield Server("sftp", f"sftp://127.0.0.1{folder}/home", options, {}, folder / "home", port, server)


class _Backend(http.server.BaseHTTPRequestHandler):
    """`git http-backend` behind the gateway interface that it speaks."""

    root = ""

    def _run(self):
        path, _, query = self.path.partition("?")
        size = int(self.headers.get("Content-Length") or 0)
        env = {
            **os.environ,
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(size),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "test",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], input=self.rfile.read(size), capture_output=True, env=env)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _run

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def git(folder, port):
    """Repositories below `folder`, to be cloned and pushed to by HTTP; `project.git` is there."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder / "project.git"], check=True)
    subprocess.run(["git", "-C", folder / "project.git", "config", "http.receivepack", "true"], check=True)
    handler = type("Backend", (_Backend,), {"root": str(folder)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server("git", f"http://127.0.0.1:{port}/project.git", {}, {}, folder / "project.git", port)
    finally:
        server.shutdown()
        server.server_close()
