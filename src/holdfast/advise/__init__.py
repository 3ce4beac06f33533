"""Which recipes fit the tasks and the budget."""
