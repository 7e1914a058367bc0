"""The commands. Each maps its options to one call; nothing heavy is imported before it runs."""
