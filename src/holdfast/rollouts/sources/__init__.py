"""Row sources. Each file holds one source of the rows of a rollout batch; `source` holds their common protocol."""
