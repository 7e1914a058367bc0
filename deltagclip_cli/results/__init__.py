"""Results of runs, ours and others: read, summarized, compared."""
