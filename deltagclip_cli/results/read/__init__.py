"""What was measured in runs, ours and other people's, read from their files."""
