"""Notes what each server did in which test, and (with DVLITE_MATRIX=1) writes the table of `dvlite help remotes`."""

import os
import re
from pathlib import Path

import pytest

import dvlite
from tests import servers

PAGE = Path(dvlite.__file__).parent / "docs/remotes.md"
COLUMNS = {
    "TestFolder": "folder",
    "TestS3": "S3 rclone",
    "TestS3fs": "S3 rclone, s3fs",
    "TestCeph": "S3 Ceph",
    "TestCephByS3fs": "S3 Ceph, s3fs",
    "TestAzure": "Azure",
    "TestGcs": "Google",
    "TestSftp": "SFTP",
    "TestWebdav": "WebDAV",
    "test_http.py": "HTTP",
}
CONTRACT = "The store's contract: put, find, read, send, many threads, damage refused"
_seen: dict[tuple[str, str], set[str]] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real S3 server of a room's own."""
    with servers.serve("s3", tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def ceph(tmp_path_factory):
    """A real Ceph of a room's own."""
    from tests.remotes.suite import started  # not before its asserts are rewritten

    context, server = started("ceph", tmp_path_factory)
    yield server
    context.__exit__(None, None, None)


def pytest_terminal_summary(terminalreporter):
    """Say which servers could not be had."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(one for one in reasons if "isn't here" in one):
        terminalreporter.write_line(f"not tested: {reason.removeprefix('Skipped: ')}")


def pytest_runtest_setup(item):
    title = (item.obj.__doc__ or "").strip() or (CONTRACT if "Test" in item.nodeid else "")
    item.user_properties.append(("title", title))


def pytest_runtest_logreport(report):
    title = dict(report.user_properties).get("title", "")
    place = report.nodeid.split("::")[-2].rpartition("/")[2]
    if title and place in COLUMNS and (report.when == "call" or report.outcome != "passed"):
        _seen.setdefault((title, place), set()).add(report.outcome)


def _cell(outcomes):
    if not outcomes:
        return " "
    return "fails" if "failed" in outcomes else "yes" if "passed" in outcomes else "–"


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput") or not os.environ.get("DVLITE_MATRIX"):
        return
    titles = sorted({title for title, _ in _seen}, key=lambda title: (title != CONTRACT, title))
    lines = ["| behaviour | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [
        f"| {title} | " + " | ".join(_cell(_seen.get((title, place))) for place in COLUMNS) + " |" for title in titles
    ]
    text = PAGE.read_text()
    PAGE.write_text(re.sub(r"(?ms)^\| behaviour \|.*?\n\n", "\n".join(lines) + "\n\n", text))
