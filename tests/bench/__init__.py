"""The benchmark that `scripts/bench` runs: dvlite, its peers and plain tools at the same work, one after the other.

`measure` runs one command; `work` makes files; `tools` knows how each peer is asked; `play` is a user's day with one tool and `distance`
a push and a pull to a server; `table` prints. Nothing here is run by the suite but one small round (tests/test_bench.py).
"""
