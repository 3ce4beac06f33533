"""The classes that recipes extend, and what a recipe can require of a task."""
