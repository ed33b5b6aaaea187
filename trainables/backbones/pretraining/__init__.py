"""How the embedded network compact_vit was pretrained, and what its features are worth."""
