"""What the smaller commands do: check, grade, plan."""
