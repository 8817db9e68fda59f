"""What the commands print: plans, estimates, progress, lists and tables."""
