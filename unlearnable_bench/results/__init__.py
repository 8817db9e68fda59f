"""What a run keeps on disk, and what is read from it: records, frames, tables, statistics."""
