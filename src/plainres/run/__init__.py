"""Cells and sweeps: configuration → objects → record; the only room that builds the objects.

May import every room but plainres.instruments.
"""
