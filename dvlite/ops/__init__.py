"""The verbs: one file each, `verb(repo, paths, *, …) -> VerbResult`. Plan, apply, return; nothing is printed here."""
