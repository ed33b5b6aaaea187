"""InfLoRA: each task learns in directions that the inputs of old tasks leave free."""
