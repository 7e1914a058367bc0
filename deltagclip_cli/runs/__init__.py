"""Run folders: the names of their files, whose they are, and what is written in them."""
