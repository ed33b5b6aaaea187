"""Linear heads, a reference point: a frozen backbone and a classifier a task."""
