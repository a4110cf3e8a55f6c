"""What lies in the folder of a run, by name; `cluster.config.reading.CONFIG` and `cluster.reporting.logs.LOG_FILE` are
there too."""

METRICS = "metrics.jsonl"  # a line for each step
EVALUATIONS = "evals.jsonl"  # a line for each evaluation while it trained
TRAJECTORIES = "trajectories"  # the folder of its Parquet files, which an evaluation's has as well
LEFT = "left"  # the folder of the rows that an environment has left, which an evaluation's has as well
CHECKPOINTS = "checkpoints"  # the folder of its checkpoints
REPORT = "report.html"
REWARD_MODEL = "reward-model.json"  # of a run that trains a reward model: what it can only go on with
LOCK = "lock"  # the file that a running process holds; it stays, and means nothing without a process
