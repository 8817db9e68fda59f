"""From the cells of a plan to records."""
