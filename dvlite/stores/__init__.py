"""Stores keep immutable objects by oid, and verify what comes in. `base` is the contract; each other room keeps it."""
