"""What `winnow doctor` looks at: checks, each in a process of its own that is killed when its time is over."""
