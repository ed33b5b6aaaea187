"""SD-LoRA: old directions stay, and how strongly each one counts goes on learning."""
