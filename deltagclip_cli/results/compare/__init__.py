"""Which optimizer is better, by how much, how sure that is, and at what cost."""
