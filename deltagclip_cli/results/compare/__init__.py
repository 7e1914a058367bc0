"""Comparisons of optimizers: the better one, by how much, how surely, and at what cost."""
