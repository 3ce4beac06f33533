"""The command line: `app` has the commands that carry out runs, the other commands have one module each."""
