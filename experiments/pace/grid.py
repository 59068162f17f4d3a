"""One sweep of the question's own grid."""

TAKES = ()
