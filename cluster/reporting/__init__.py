"""What a run tells: metrics and their meanings, files, the terminal."""
