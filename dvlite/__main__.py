"""Where the program starts: what Git calls goes to the light entry, without a parser; all else to the full one."""

import gc
import os
import sys


def _prepare() -> None:
    """Have three open streams, and names in UTF-8: they are bytes on disk, whatever the locale says."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # else the next file that is opened were the output
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _end(code: int) -> None:
    """End at once: to take the interpreter down in order takes longer than most hooks, or a third of a second of a push."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    except OSError:
        sys.exit(code)  # which tells of it
    os._exit(code)


def main() -> None:
    """Run and exit."""
    _prepare()
    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in ("hook", "merge-driver", "textconv"):
        gc.disable()  # while there is only code to load
        from dvlite.cli import hook

        _end(hook.run(arguments))
    gc.set_threshold(100_000, 20, 100)  # commands make many small values, few cycles, and end soon
    bytearray(
        1 << 24
    )  # glibc, once it has freed so much at a time, keeps freed buffers instead of asking for new pages each time
    from dvlite.cli import main as full

    _end(full.run(arguments))


if __name__ == "__main__":
    main()
