"""Fuzz one decoder, guided by coverage: `python -m tests.fuzz NAME [-runs=N] [libFuzzer's options]`; without NAME, list them.

An error that is not ours, or more than 256 MB, ends it with the bytes that did it.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dvlite"]):
    from dvlite.errors import DvliteError
    from tests.test_hostile import DECODERS


def main():
    names = {name.replace(" ", "-"): decoder for name, decoder in DECODERS.items()}
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"one of: {' '.join(names)}")
    decode, good = names[sys.argv[1]]

    def one(data):
        with contextlib.suppress(DvliteError):
            decode(bytes(data))

    with tempfile.TemporaryDirectory() as corpus:
        Path(corpus, "good").write_bytes(good)
        atheris.Setup([sys.argv[0], "-rss_limit_mb=256", "-max_len=4096", *sys.argv[2:], corpus], one)
        atheris.Fuzz()


main()
