"""One module a file format: each has `read`, which lists the images without opening them."""
