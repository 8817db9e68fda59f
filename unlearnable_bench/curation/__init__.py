"""Care of results folders: their state, checks, removal, archives and merging."""
