"""Everything that is found out before Ray starts: data, references, lengths, memory."""
