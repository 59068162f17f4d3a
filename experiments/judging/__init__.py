"""From records to verdicts: statistics, claims, pairs within seeds.

May import plainres.records.
"""
