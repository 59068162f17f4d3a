"""The networks: depth → layers.

Imports nothing of plainres.
"""
