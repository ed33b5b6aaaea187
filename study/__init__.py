"""Everything a person runs: study files in, an answered question out."""
