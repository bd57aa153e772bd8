"""Data sets: readers, the demo renderer, transforms and loaders."""
