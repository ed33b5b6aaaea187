"""From a study's records to summaries, fits and verdicts, as numbers without words."""
