"""What people may type. No function is declared here, so nothing in it can be called from outside."""

import re

from tidewell import AppError

NAME_LONGEST = 30
TEXT_LONGEST = 1000


def channel_name(text):
    """Return the name of a channel as it is stored: `General` and `general` are one."""
    name = text.strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or len(name) > NAME_LONGEST:
        refuse("BAD_NAME", f"A channel's name is letters, digits and dashes, at most {NAME_LONGEST}.")
    return name


def message_text(text):
    text = text.strip()
    if not text:
        refuse("EMPTY", "There is nothing to send.")
    if len(text) > TEXT_LONGEST:
        refuse("TOO_LONG", f"A message has at most {TEXT_LONGEST} characters; yours has {len(text)}.")
    return text


def refuse(code, message):
    """Fail in a way that the front end can show."""
    raise AppError({"code": code, "message": message})
