"""The embedded benchmark: its file, how that is read, and how it was built."""
