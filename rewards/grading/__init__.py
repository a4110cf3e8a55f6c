"""How verdicts are made safely: worker processes that can be killed, one verdict for each case."""
