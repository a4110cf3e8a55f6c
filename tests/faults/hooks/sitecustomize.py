"""Python imports this file at its start, in every process of a run under fault injection: the folder is on PYTHONPATH
there."""

from tests.faults.inside import arm

arm()
