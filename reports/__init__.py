"""Built-in reports, which depend only on the records."""
