"""Several methods over seeds under one budget: runs, statistics, table and page."""
