"""What a sweep will cost on machines whose speed is in the committed tables.

Not a question: it judges nothing. `plainres estimate` prints it.
"""
