"""Where the program starts: what Git calls goes to the light entry, without a parser; all else to the full one."""

import contextlib
import gc
import os
import sys


def main() -> None:
    """Run and exit."""
    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in ("hook", "merge-driver", "textconv"):
        gc.disable()  # while there is only code to load
        from dvlite.cli import hook

        code = hook.run(arguments)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # taking the interpreter down in order needs longer than most hooks
    from dvlite.cli import main as full

    sys.exit(full.run(arguments))


if __name__ == "__main__":
    main()
