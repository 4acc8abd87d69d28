"""The worktree: scan a folder into a tree, plan what should change, and materialise trees into folders.

`scan` reads, `plan` decides (pure), `materialise` writes. None of them knows pointers or remotes.
"""
