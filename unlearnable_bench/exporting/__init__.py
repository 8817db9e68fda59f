"""Poisoned training sets for other programs: formats, their cards, and the way back."""
