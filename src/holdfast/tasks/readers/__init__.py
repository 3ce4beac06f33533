"""Readers: from files and Hugging Face datasets, in the forms in which data is found, to examples."""
