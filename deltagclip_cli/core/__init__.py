"""Ground floor: errors, files, locks, seeds, tables of names; no torch and no numpy."""
