"""The debugger: one recorded mutation, run again in a worker, stop by stop.

subject     the call that is debugged, and what is known of it without running it
reel        the stops of its run, a window at a time
session     where one is in it, and how to get elsewhere; no terminal
printing    the whole of a trace as lines, and as JSON
view        the terminal
"""
