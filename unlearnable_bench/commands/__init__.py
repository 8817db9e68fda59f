"""The commands of `ubench`, one per file: options, help, and the call that does the work.

Whatever loads torch or pandas is imported inside a command, so that `ubench --help` does not wait
for it.
"""
