"""What `winnow doctor` looks at: a table of checks, each in a process of its own that is killed when its time is over."""
