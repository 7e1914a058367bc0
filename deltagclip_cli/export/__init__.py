"""Runs sent to where other programs look for them: tables in files, and trackers.

Whoever exports reads run folders, as ``compare`` does; processes that train know nothing of it.
"""
