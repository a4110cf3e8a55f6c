"""What a machine computes and how its processes reach each other, tried on the spot: for `winnow doctor` and the tests."""
