"""Replay: a run whose commit is a comparison (`function-semantics.md` 13.7).

    recorded       from a commit's timestamp to everything that is needed to run its call again
    compare        what a run and a record have in common, and where they part
    divergence     the kinds of difference, in words
    source         where calls come from: the store of a deployment, a backup, a capsule
    replayer       runs recorded calls in the pool's workers, batched, and compares
    what_if        recorded calls against other code
    capsule        one call with all it needs, in one small file
    report         results for people and for programs

Nothing here writes to a store, and nothing here runs a guest outside the sandbox.
"""
