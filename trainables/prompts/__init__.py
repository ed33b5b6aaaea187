"""Prompts of a frozen Vision Transformer: how they are chosen, learned and put in; torch only."""
