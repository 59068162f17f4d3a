"""Cells and sweeps: configuration → objects → record; the only package that builds them.

May import every package but plainres.instruments.
"""
