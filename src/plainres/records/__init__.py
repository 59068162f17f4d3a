"""What a run leaves behind: its record, the tables, and the identity that both hang on.

Imports nothing of plainres, and no torch.
"""
