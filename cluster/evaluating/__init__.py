"""`winnow eval`: a model or a run answers benchmarks, and what can be said of it with which certainty."""
