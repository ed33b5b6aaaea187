"""One file per format on disk: each has `read(path, channels, classes) -> Listing`."""
