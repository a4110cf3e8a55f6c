"""How long a call to a remote actor may take, in seconds. Nobody is waited for without end.

Besides these, a run's settings bound what it does often: `rollout.timeout_seconds` a group, `sync.timeout_seconds` each
part of a sync, `cluster.silent_seconds` the time in which an actor that works must give a sign of life.
"""

CALL = 600.0  # bookkeeping that computes nothing long: to open a run, to count, to write what is at hand
FILTER = 300.0  # a call of the filter, in which a file may be written or arrays be fetched
START = 3600.0  # an engine or a model starts: weights are read, kernels compiled, graphs captured
ROOM = 1800.0  # the cluster finds room for an actor whose node is gone, or for the learner's ranks
SAVE = 2 * 3600.0  # a checkpoint is written
LONGEST = 4 * 3600.0  # whatever nothing else is said of
# A training step may take as long as the model and its data want: it is given up when it takes so many times as long as
# the longest one before it, and never before LONGEST. A rank whose process hangs gives no sign of life long before, and
# ranks that wait for each other give up by themselves.
STEPS = 20
BESIDE_ROLLOUT = 60.0  # for a generator to say itself that a group took longer than rollout.timeout_seconds
