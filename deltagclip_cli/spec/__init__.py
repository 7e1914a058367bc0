"""What the user wrote: read from YAML, checked at once, frozen. Nothing here imports torch."""
