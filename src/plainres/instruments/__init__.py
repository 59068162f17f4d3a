"""Measurements beside training: probes, gradients in low precision, branch norms, loss
landscapes, inspection.

Reached through `_target_` or as commands. May import every room.
"""
