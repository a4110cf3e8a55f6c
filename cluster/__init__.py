"""Where a run runs and how it is driven: config, placement, the main loop, metrics, the command line."""
