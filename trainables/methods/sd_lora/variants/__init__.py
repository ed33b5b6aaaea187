"""SD-LoRA with other defaults: a file is a method of its own, sd_lora_<file>."""
