"""Tracing: one call run again, line by line, for whoever debugs it.

shape         what is asked of a trace and what it says: plain data with caps
look          values of the guest as short texts, without calling anything of the guest's
code_maps     which events of a piece of code are the user's, and which are the compiler's
touches       the documents that the call reads and writes
recorder      the interpreter's hook, inside the worker
"""
