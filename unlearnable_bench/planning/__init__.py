"""Planning: from names and settings to the cells of a plan."""
