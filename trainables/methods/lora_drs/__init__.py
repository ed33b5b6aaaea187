"""LoRA-DRS: updates kept in the space of features that old updates are taken off of."""
