"""Sweeps as array jobs of Slurm: the scripts, the submissions, and what the queue says of them.

Slurm is reached through its commands alone; it needs no accounting database, and where its commands
are missing the files of the run folders are what is known.
"""
