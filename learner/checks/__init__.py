"""What a machine computes and how its processes reach each other, tried out for `winnow doctor` and the tests."""
