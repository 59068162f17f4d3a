"""One sweep over arms and depths."""

TAKES = ("protocol", "arms", "name", "shallow")
