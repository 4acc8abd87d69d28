"""Where the program starts: what Git calls goes to the light entry, without a parser; all else to the full one."""

import gc
import sys


def main() -> None:
    """Run and exit."""
    arguments = sys.argv[1:]
    if arguments[:1] and arguments[0] in ("hook", "merge-driver", "textconv"):
        gc.disable()  # while there is only code to load
        from dvlite.cli import hook

        sys.exit(hook.run(arguments))
    from dvlite.cli import main as full

    sys.exit(full.run(arguments))


if __name__ == "__main__":
    main()
