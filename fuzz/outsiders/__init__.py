"""Bytes from outside, made wrong: every parser of what strangers send, guests included.

    python -m fuzz.outsiders --seconds 600
    python -m fuzz.outsiders --target sockets --seed 7

A *target* takes bytes and must do one of two things: use them, or refuse them in the way
it says. Any other exception, an error in the log, a run that takes for ever, or memory out of
all proportion is a finding; Hypothesis shrinks it. The bytes begin as something valid
and are then cut, doubled, spliced and set to what has hurt parsers before.
"""
