"""What a trial learned as weights of a stock timm network."""
