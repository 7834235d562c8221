"""The kernel wall around a worker: what a process can give up, and proof that it did.

Everything here goes through `ctypes` to the kernel; no other library is needed.
`layers` holds the order and says which layers are mandatory, the other files
hold one mechanism each, and `selftest` tries what must have become impossible.
"""
