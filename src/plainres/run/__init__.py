"""Cells and sweeps: configuration → objects → record. The only room that builds objects from a configuration.

May import every room but plainres.instruments.
"""
