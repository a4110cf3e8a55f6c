"""Which groups go on to the learner: the rules, the ledger, the filter actor, the Parquet recorder."""
