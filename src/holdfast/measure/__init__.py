"""What follows from numbers: no module here asks a model, and none imports torch."""
