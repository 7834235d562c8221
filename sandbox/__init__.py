"""The sandbox: guests run in it, deterministic and metered, and cannot get out of it.

Two walls, either of which is meant to hold alone. The language wall decides what
guest code can say; the kernel wall decides what its process can do.

    policy, costs                             both as data: what may be said, what it costs
    restricted, expressions, assignments,     from source text to guarded code
      patterns, transformer, inline, inference,
      nesting, weights, field_uses, compiler
    guest, guards, operators, methods,        what guarded code calls: the runtime of one worker
      builtins, lazy, sets, keys, structure,
      text, text_methods, classes, shapes,
      faces, host, meter, faults
    facades/                                  the standard modules, member by member
    determinism, traces                       chance from a seed; errors in the user's own lines
    loader, analyser, analysis, index_uses    an app's modules, and what a push learns of them
    sdk, context, database, query, ranges,    what an app is written against: `tidewell` and `ctx`
      filters, pagination, cursors, url_text,
      files, file_links, http_actions,
      fetching, later
    transaction, limits, convert, log_lines   what is under it
    passing, trail, places                    what is kept of what was asked there, and by which line
    calls, execution, executor                one call, and those nested in it

    tracing/                                  one call run again, line by line, for who debugs it

    frames                                    what the engine and a worker may say to each other
    confinement/                              the kernel wall, layer by layer
    launch, control, zygote, worker           the processes
    pool/                                     leases, budgets, replacement; knows trio
    doctor                                    what is in force on this machine
"""
