"""Looking for the best setting of each optimizer of an experiment.

Draws are trials of a plan, which any launcher runs (``drawn_search``). With Optuna, what is tried
next follows from what has ended: what needs it is in the files whose names begin with ``tpe_``.
"""
