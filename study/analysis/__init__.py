"""From the ledger of a study to fits, intervals, figures and one page."""
