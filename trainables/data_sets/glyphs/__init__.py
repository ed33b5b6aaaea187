"""The embedded characters of many scripts: their file, how that is read, and how it was built."""
