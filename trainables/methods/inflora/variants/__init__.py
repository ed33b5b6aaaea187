"""InfLoRA with other defaults: a file is a method of its own, inflora_<file>."""
