"""A first verdict on an optimizer, against two rivals on three small problems."""
