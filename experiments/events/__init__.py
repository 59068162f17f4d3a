"""What TensorBoard shows: event files that are made of the tables, and TensorBoard on them.

May import what questions may. Needs neither torch nor a network.
"""
