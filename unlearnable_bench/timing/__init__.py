"""How long the work takes on a device, and why."""
