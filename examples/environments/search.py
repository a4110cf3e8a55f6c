"""A search over documents, in which one answer leads to the next question."""
