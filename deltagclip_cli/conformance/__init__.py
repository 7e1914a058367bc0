"""Conformance tests of anybody's optimizer.

A test is a :class:`ConformanceTest` in the file of its subject, and stands in the ``TESTS`` of
that file; ``every_test`` has all of them. :mod:`~deltagclip_cli.conformance.host` runs each in
a process of its own, for an optimizer may crash or hang.
"""
