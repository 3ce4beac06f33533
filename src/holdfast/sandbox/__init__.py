"""Programs that a model or a stranger wrote run here: in processes that can reach nothing and that end in time."""
