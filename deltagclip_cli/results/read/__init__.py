"""Reading of runs, ours and other people's, from their files."""
