"""Results: records on disk, data frames of them, tables and statistics."""
