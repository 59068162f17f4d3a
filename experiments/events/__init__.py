"""What TensorBoard shows: event files that are made of the tables, and TensorBoard on them.

May import what questions may, and experiments.signal. Needs neither torch nor a network.
"""
