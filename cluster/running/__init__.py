"""One run: the loop, its stages, weight publishing, evaluation, the warm-up."""
