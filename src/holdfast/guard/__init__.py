"""Rules over a run's live numbers that say when it begins to collapse."""
