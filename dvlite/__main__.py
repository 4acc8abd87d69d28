"""`python -m dvlite`."""

from dvlite.cli.main import main

main()
