"""E2-LoRA: each task learns on outputs that old tasks need least."""
