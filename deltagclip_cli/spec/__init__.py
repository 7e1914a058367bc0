"""The file of experiments: read from YAML, checked at once, frozen. Nothing here imports torch."""
