"""One training run: schedule, update, module, log, machine.

May import plainres.networks, plainres.data, plainres.records.
"""
