"""Folders of pictures: read, protected, written and checked."""
