"""Looking for the best setting of each optimizer: a study of Optuna, fed from run folders.

Only :mod:`~deltagclip_cli.search.subject` can be imported without Optuna.
"""
