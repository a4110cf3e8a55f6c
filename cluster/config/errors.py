"""The error of a person's mistake."""


class ConfigError(ValueError):
    """A person's mistake, said in full: what is wrong, its value, what to do."""
