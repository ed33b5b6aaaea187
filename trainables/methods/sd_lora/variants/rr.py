"""SD-LoRA-RR (rank reduction): later tasks get pairs of smaller rank."""

# Rank 10 (method.rank) for tasks 1 to 4, 8 for 5 to 8, then 6: the published schedule.
DEFAULTS = {"method.rank_steps": ("8 from 5", "6 from 9")}
