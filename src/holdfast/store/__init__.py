"""The run directory, model folders, atomic file writes."""
