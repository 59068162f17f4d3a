"""One page to look at: `plainres report` writes it from records alone, without torch or a network.

May import what questions may, and experiments.depth.
"""
