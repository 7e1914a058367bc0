"""The way in for Python programs and notebooks; commands of the same names do the same."""
