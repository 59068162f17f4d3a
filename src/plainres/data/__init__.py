"""Images and batches: sources → uint8 tensors → augmented batches on the device.

May import plainres.records.
"""
