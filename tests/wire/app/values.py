from typing import Any

from tidewell import action, mutation, query


@query
def echo(ctx, value: Any = None) -> Any:
    print("echo")
    return value


@mutation
def echo_mutation(ctx, value: Any = None) -> Any:
    print("echo")
    return value


@action
def echo_action(ctx, value: Any = None) -> Any:
    print("echo")
    return value


@query
def who(ctx) -> dict:
    identity = ctx.auth.get_user_identity()
    return {"admin": False, "name": None if identity is None else identity["tokenIdentifier"]}
