"""What is to be run, what has been run, and how long it takes."""
