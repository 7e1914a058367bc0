"""Source code of parts: named, read without importing, kept as it was, imported."""
