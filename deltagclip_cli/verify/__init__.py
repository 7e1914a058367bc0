"""A report judged by the run folders that it is of, and by training some of them again."""
