"""Measurements beside training: probes, branch norms, loss landscapes, inspection.

Reached through `_target_` or as commands. May import every room.
"""
