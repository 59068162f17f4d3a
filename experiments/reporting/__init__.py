"""From verdicts to text, tables, figures and READMEs.

May import experiments.judging and plainres.records.
"""
