"""What TensorBoard shows of runs: a folder with their event files, and what we add to them."""
