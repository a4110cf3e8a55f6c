"""The run file: sections, checks across them, reading TOML and overrides."""
