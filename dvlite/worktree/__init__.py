"""The worktree: scan a folder into a tree, plan what should change, and materialise trees into folders.

`scan` looks (`reading` reads what it doesn't know), `plan` decides (pure), `materialise` carries out (`writing` fills what is
built aside, `settle` puts it into place, `made` is what the next scan need not look at). None of them knows pointers or remotes.
"""
