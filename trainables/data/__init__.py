"""How a trial sees a data set: its stream of tasks, and batches on the training device."""
