"""Looking for the best setting of each optimizer: a study of Optuna, fed from run folders.

Only ``searched`` and ``session`` can be imported without Optuna.
"""
