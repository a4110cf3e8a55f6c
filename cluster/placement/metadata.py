"""What winnow writes into the metadata of a job of Ray, so that people and other jobs see whose it is."""

RUN, FOLDER = "winnow_run", "winnow_folder"  # the name of a run, and its folder on the cluster
NAME = "job_name"  # Ray's own, for which its dashboard has a column
