"""What looks like a secret, and how it is hidden in all that winnow prints, logs or keeps of an error."""

import os
import re

HIDDEN = "<hidden>"
SHORTEST = 8  # letters of the value of a variable that is hidden; shorter ones would hide words
_WORDS = "(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|SIGNATURE)"
NAME = re.compile(rf"(?:.*[^a-z0-9])?{_WORDS}(?:[^a-z0-9].*)?", re.IGNORECASE)
PLACE = re.compile(r".*_(?:FILE|PATH|DIR|URL|ID)|GOOGLE_APPLICATION_CREDENTIALS|SSH_AUTH_SOCK", re.IGNORECASE)
# Secrets that show by their form: keys of OpenAI and Anthropic, tokens of Hugging Face, GitHub, GitLab and Slack, keys
# of AWS and Google, JSON web tokens, private keys.
FORM = re.compile(
    r"\b(?:sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{16,}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
IN_QUERY = re.compile(r"(?<=[?&])([\w.-]+)=[^&#\s\"'<>]+")


def hidden(text: str) -> str:
    """A text with what looks like a secret, or is one in this process's environment, replaced by HIDDEN."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and names_secret(name):
            text = text.replace(value, HIDDEN)
    text = IN_ADDRESS.sub(HIDDEN, FORM.sub(HIDDEN, text))
    return IN_QUERY.sub(lambda found: f"{found[1]}={HIDDEN}" if names_secret(found[1]) else found[0], text)


def names_secret(name: str) -> bool:
    """Whether a variable or parameter of this name holds a secret, and not the place of one."""
    return bool(NAME.fullmatch(name)) and not PLACE.fullmatch(name)
