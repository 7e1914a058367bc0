"""The terminal: streams, console, progress, tables."""
