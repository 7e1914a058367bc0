"""Torch, and what its first optimizer loads: whoever imports this has it all.

It stays to the end, so it is never looked through for garbage. Else that would take two fifths of
the processor time of a process that trains for a moment, half of them after its last word.
"""

import gc

gc.disable()
import torch._dynamo  # noqa: E402, F401

gc.freeze()
gc.enable()
