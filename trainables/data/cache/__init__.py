"""Images decoded, and features of them computed, once a machine in files that trials map."""
