"""The parts of trials are built once, without their data, before the first of them begins.

What only torch knows of a spec is found out here: that an optimizer refuses an option or fails at
its first step, that a schedule ends before the training does, that a network has no room. No
memory is taken for it: networks are built on the meta device, optimizers get small parameters.
"""
