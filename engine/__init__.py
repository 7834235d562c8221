"""The engine: order, retries, subscriptions, the sync server, the command line. Runs on trio.

A map, from what decides to what a person touches:

    backend                                   what the wire sees of a deployment
    clock, chance, offload, promise           time, randomness and threads as things handed in
    committer                                 the order of commits; groups, one sync each
    conflict_report, conflicts                who overtook whom, and where it is kept
    mutations, mutation_queue, pace           from a call to a durable commit, however often it takes
    idempotency, records, stored_nested,      what is written along with a commit
      conditions, kept_claims
    attempts                                  what is kept of runs that were not committed
    queries, query_entries, query_lanes       the query cache; its records; executions on their way
    read_registry, interval_index,            who is told of a commit, and when
      interval_tree, doorbells, alarms, explain
    actions, fetches                          functions outside transactions, and their way out
    runner, guest_outcomes, guest             calls in workers; what a worker says; the worker's side
    code, push, app_folder                    versions of an app, and how one becomes active
    app_settings                              what tidewell.toml says
    staged_indexes                            indexes that are filled behind a push
    own_writes, environment, edits            what an operator writes: variables, documents
    deployment, housekeeping, collector       the parts put together, and kept tidy

    session, client_requests, transitions,    one socket's protocol, without I/O
      query_set, commands, answers, failures,
      clients, id_ranges, pacing, held, heavy
    connection, socket_stream                 a WebSocket that carries out what its session commands
    shared_limits, receiving                  what all sockets together may take
    exchange, http, http_api, site            HTTP, the API and pages
    http_actions, files, files_api            requests that the app's own functions answer; files
    admin_api                                 what the command line asks of a running server
    server                                    one port for all of it
    auth, auth_config, user_tokens, claims,   who a caller is
      jwks, key_cache, outgoing

    cli, app_commands, store_commands         the command line
    admin_client, command_options,            commands on a running server
      push_commands, env_commands
    browse, data_commands                     looking at documents, and changing them by hand
    history, moments, showing                 the log of a data folder, as people read it
    provenance, rerun                         where a value came from; recorded calls, run again
    fork, suffix, catalog_copy                a deployment as it was, or would be without a call
    replay/                                   recorded calls, run again and compared; capsules; what-if
    debugging/                                one recorded call, run again line by line
    log_commands, conflict_commands,          commands on it
      why_commands, fork_commands,
      replay_commands, debug_commands
    dev, serve, hosting, hosting_options,     serving an app, while it is written and for good; calling it
      report, run
    codegen, codegen_files, codegen_types     types for front ends
    testing/                                  the engine in the process of a test, in virtual time
    fuzz_commands                             searching the calls of an app there
"""
