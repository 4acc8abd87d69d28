"""Ceph's RADOS gateway: the S3 server with conditional puts, versions, checksums and 1,000-key pages. Needs root."""

import base64
import contextlib
import os
import struct
import subprocess
import uuid

from tests.servers import KEY, S3_ENV, SECRET, Server, free_port, program, running, wait_for

CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd data = {folder}/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd memory target = 1000000000
bluestore block size = 21474836480
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw dynamic resharding = false
"""


@contextlib.contextmanager
def ceph(folder, port):
    """One monitor, one object server on a file, one gateway; a bucket is there."""
    package = "Debian's radosgw, ceph-mon, ceph-osd"
    monmaptool, mon, osd, gateway, admin, ceph_ = (
        program(name, package)
        for name in ("monmaptool", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph")
    )  # fmt: skip
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    mon_port, fsid = free_port(), str(uuid.uuid4())
    conf = folder / "ceph.conf"
    conf.write_text(CONF.format(folder=folder, mon_port=mon_port, port=port, fsid=fsid))
    (folder / "keyring").write_text("".join(map(_key, ("mon.", "client.admin", "osd.0"))))

    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")

    use = ("-c", str(conf))
    monmap, log = str(folder / "monmap"), folder / "log"
    run(monmaptool, "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
    run(mon, *use, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(folder / "keyring"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(mon, *use, "-i", "a", "-f", log=log))
        disk = str(uuid.uuid4())
        run(ceph_, *use, "--connect-timeout", "30", "osd", "new", disk)
        run(osd, *use, "-i", "0", "--mkfs", "--osd-uuid", disk)
        stack.enter_context(running(osd, *use, "-i", "0", "-f", log=log))
        run(admin, *use, "user", "create", "--uid", "test", "--display-name", "test",
            "--access-key", KEY, "--secret-key", SECRET)  # fmt: skip
        server = stack.enter_context(running(gateway, *use, "-n", "client.admin", "-f", log=log))
        endpoint = f"http://127.0.0.1:{port}"
        wait_for(endpoint, 60, server)
        make_bucket(endpoint)
        yield Server("ceph", "s3://bucket", {"endpoint_url": endpoint}, S3_ENV, None, port, server)


def _key(name):
    key = base64.b64encode(struct.pack("<HIIH", 1, 0, 0, 16) + os.urandom(16)).decode()
    return f'[{name}]\n\tkey = {key}\n\tcaps mon = "allow *"\n\tcaps osd = "allow *"\n'


def make_bucket(endpoint):
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket="bucket")
