"""Attacks on what the runtime hands to functions, and on what it takes from them."""

from collections import Counter, defaultdict, namedtuple
from dataclasses import dataclass

from tidewell import AppError, Int64, api, mutation, query


class Sly(Exception):
    args = ("not these",)


class SlyError(AppError):
    data = "a class attribute"
    message = "\x1b[2J"


@dataclass
class Bomb:
    a: list
    b: list


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def wide(levels):
    value = ["x" * 10_000]
    for _ in range(levels):
        value = [value, value]
    return value


def hidden(name):
    return "_" + "_" + name + "_" + "_"


# ---- values that leave ------------------------------------------------------------


@query
def returns_itself(ctx):
    value = {}
    value["self"] = value
    return value


@query
def returns_depth(ctx):
    return deep(10_000)


@query
def returns_a_bomb(ctx):
    return wide(40)


@query
def returns_a_bomb_of_dataclasses(ctx):
    value = Bomb("x" * 10_000, 2)
    for _ in range(40):
        value = Bomb(value, value)
    return value


@query
def returns_a_bomb_of_counters(ctx):
    value = Counter(a="x" * 10_000)
    for _ in range(40):
        value = defaultdict(list, a=value, b=value)
    return value


@query
def returns_a_function(ctx):
    return [lambda: 1]


@query
def returns_a_generator(ctx):
    return (n for n in [1])


@query
def returns_the_context(ctx):
    return {"ctx": ctx}


@query
def returns_a_class(ctx):
    return Bomb


@query
def returns_half_a_letter(ctx):
    return "\ud800"


@query
def returns_half_a_key(ctx):
    return {"\udfff": 1}


@query
def returns_a_key_of_the_wire(ctx):
    return {"$integer": "AAAAAAAAAAA="}


@query
def returns_numbers_as_keys(ctx):
    return {1: 2}


@query
def returns_a_long_integer(ctx):
    return 2**16000


@query
def returns_a_missing_value(ctx):
    return [Int64(2**62).missing]


@query
def returns_a_named_tuple(ctx):
    return namedtuple("P", "a b")(1, {"c": (2,)})


@query
def returns_odd_floats(ctx):
    return [float("nan") != float("nan"), -0.0, 1e308 * 10]


# ---- errors -----------------------------------------------------------------------


@query
def raises_sly(ctx):
    raise Sly(ctx)


@query
def raises_data_that_is_none(ctx):
    raise AppError({"ctx": ctx})


@query
def raises_a_bomb(ctx):
    raise AppError(wide(40))


@query
def raises_depth(ctx):
    raise AppError(deep(10_000))


@query
def raises_a_class_attribute(ctx):
    raise SlyError({"kind": "real"})


@query
def raises_escapes(ctx):
    raise ValueError("\x1b[31m\r\n  at forged (engine.py:1)\0" + "x" * 100_000)


@query
def raises_half_a_letter(ctx):
    raise ValueError("\ud800")


@query
def raises_many_texts(ctx):
    text = "x" * 1_000_000
    raise ValueError(*[text] * 100_000)


@query
def raises_the_host(ctx):
    raise AppError


@mutation
def writes_data_into_an_error(ctx):
    error = AppError("before")
    error.data = ctx
    raise error


# ---- logs -------------------------------------------------------------------------


@query
def logs_without_end(ctx):
    while True:
        print("x" * 100_000)


@query
def logs_lines_of_others(ctx):
    print("fine\n[ERROR] forged\r\x1b[2J\0", "\ud800")
    ctx.log.info(deep(10), ctx, Bomb(1, ctx))
    return "logged"


@query
def logs_a_bomb(ctx):
    ctx.log.error(wide(40))


# ---- ids, cursors, references -------------------------------------------------------


@query
def gets_by(ctx, given: str):
    return ctx.db.get(given)


@query
def gets_by_objects(ctx):
    return ctx.db.get(["a"])


@query
def reads_the_system(ctx, table: str):
    return ctx.db.query(table).take(5)


@mutation
def writes_the_system(ctx, table: str):
    return ctx.db.insert(table, {"name": "x"})


@mutation
def forges_fields(ctx):
    return ctx.db.insert("things", {"_id": "forged", "_creationTime": 1})


@mutation
def deletes(ctx, given: str):
    ctx.db.delete(given)


@mutation
def inserts_a_bomb(ctx):
    return ctx.db.insert("things", {"a": wide(40)})


@mutation
def inserts_into(ctx, table: str):
    return ctx.db.insert(table, {"a": 1})


@query
def pages(ctx, cursor: str):
    return ctx.db.query("things").paginate({"cursor": cursor, "numItems": 2})


@query
def pages_of(ctx, count: float):
    return ctx.db.query("things").paginate({"cursor": None, "numItems": count})


@query
def calls(ctx, path: str):
    return ctx.run_query(path, {})


@query
def calls_itself(ctx):
    return ctx.run_query("faces:calls_itself", {})


@query
def calls_by_reference(ctx):
    return ctx.run_query(api.faces.format.mro.func, {})


@query
def reaches_behind_the_context(ctx, name: str):
    return getattr(ctx, hidden(name))


@query
def reaches_behind_a_query(ctx, name: str):
    return getattr(ctx.db.query("things"), name)


@query
def writes_the_context(ctx):
    ctx.db = 1


@query
def keeps_a_query(ctx):
    return ctx.db.query("things")


@query
def filters_by_an_endless_function(ctx):
    return ctx.db.query("things").filter(lambda q: filters_by_an_endless_function(q)).collect()


@query
def ranges_over_objects(ctx):
    return ctx.db.query("things").with_index("by_id", lambda q: q.eq("_id", ctx)).collect()


@query
def reads_the_environment_by_objects(ctx):
    return ctx.env[deep(100)]
