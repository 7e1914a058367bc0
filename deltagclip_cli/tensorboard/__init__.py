"""TensorBoard on runs: a folder with links to their event files, and means, bands and charts."""
