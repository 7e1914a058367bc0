"""Planning: the trials to run, those that have been run, and the time that they take."""
