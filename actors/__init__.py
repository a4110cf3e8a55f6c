"""Everything that turns a prompt into a graded, accepted group: data, generator, verifier, filter, ledger."""
