"""An experiment runner for comparing optimizers, and the reference implementation of δ-GClip."""

__version__ = "0.1.0"
