"""Tuning by a protocol: which settings are drawn, which are chosen, and what is run next."""
