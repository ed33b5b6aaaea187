"""Images decoded once a machine, in files that all of its trials map."""
