"""Facades: what guests get when they import a standard module. One file each, members listed one by one."""
