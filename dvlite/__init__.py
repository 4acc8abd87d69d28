"""dvlite: a Git-integrated, content-addressed store for data and models."""

__version__ = "0.1.0"
