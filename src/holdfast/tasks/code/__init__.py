"""Tasks whose answers are programs: tests of programs, how they are run, and what feedback says."""
