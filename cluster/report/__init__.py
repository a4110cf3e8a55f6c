"""Pages that a person shows to others: sections with a sentence, a chart and a table, in one HTML file."""
