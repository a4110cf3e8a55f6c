"""`winnow init`: a run file from a model folder and a data file that were looked at."""
