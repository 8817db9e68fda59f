"""Files that survive: atomic writes, checksums, locks, full disks, and what is damaged."""
