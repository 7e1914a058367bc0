"""Looking for the best setting of each optimizer: a study of Optuna, fed from run folders.

Only :mod:`~deltagclip_cli.search.problem` can be imported without Optuna.
"""
