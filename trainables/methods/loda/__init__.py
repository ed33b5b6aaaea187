"""LoDA: a branch in directions that old tasks share, and one in those that are the new task's."""
