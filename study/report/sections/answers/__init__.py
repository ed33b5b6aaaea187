"""The short answer, warnings and method; results, pairs, published numbers, fronts, figures."""
