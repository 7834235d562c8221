from typing import Any

from tidewell import AppError, action, mutation, query


@query
def refuse(ctx, data: Any = None) -> None:
    raise AppError(data)


@mutation
def refuse_mutation(ctx, data: Any = None) -> None:
    raise AppError(data)


@action
def refuse_action(ctx, data: Any = None) -> None:
    raise AppError(data)


@mutation
def fail_mutation(ctx, text: str = "no such channel") -> None:
    raise ValueError(text)
