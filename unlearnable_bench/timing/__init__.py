"""Timing: cost of attack and training steps on a device."""
