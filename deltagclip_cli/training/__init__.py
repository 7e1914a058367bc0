"""The training of one trial, from its parts to its result."""
