"""A helper module: no decorators here, so nothing in it can be called from outside."""

from tidewell import AppError


def cleaned(field, text, longest):
    """Return the text without space around it; refuse an empty or an overlong one."""
    text = text.strip()
    if not text:
        raise AppError({"code": "EMPTY", "field": field, "message": f"Please fill in the {field}."})
    if len(text) > longest:
        message = f"The {field} may have {longest} characters; yours has {len(text)}."
        raise AppError({"code": "TOO_LONG", "field": field, "message": message})
    return text
