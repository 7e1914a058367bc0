"""The commands, a file each, imported when they are called, described or completed.

Help and completion wait for what a file imports at its head: neither torch nor numpy.
"""
