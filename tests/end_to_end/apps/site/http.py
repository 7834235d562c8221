"""The public face of the app: a web hook, an echo, long answers, and what goes wrong."""

import json

from inbox import hook
from tidewell import AppError, Response, Router, http_action

router = Router()
router.route(path="/hook", method="POST", handler=hook)


@http_action
def echo(ctx, request):
    told = {
        "method": request.method,
        "path": request.path,
        "url": request.url,
        "all": request.query.get_all("q"),
        "first": request.query.get("q"),
        "none": request.query.get("nothing", "nothing"),
        "agent": request.headers.get("USER-AGENT"),
        "size": len(request.body()),
    }
    return Response(json.dumps(told), headers={"Content-Type": "application/json", "x-route": "echo"})


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    router.route(path_prefix="/echo/", method=method, handler=echo)


@http_action
def exact(ctx, request):
    return Response("exact", headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])


router.route(path="/echo/exact", method="GET", handler=exact)


@http_action
def longer(ctx, request):
    return Response("longer")


router.route(path_prefix="/echo/longer/", method="GET", handler=longer)


@http_action
def form(ctx, request):
    fields = request.form()
    return Response(", ".join([fields.get("name"), *fields.get_all("tag")]))


router.route(path="/form", method="POST", handler=form)


@http_action
def who(ctx, request):
    try:
        identity = ctx.auth.get_user_identity()
    except Exception as error:
        return Response(f"refused: {error}", 403)
    return Response("nobody" if identity is None else identity["subject"])


router.route(path="/who", method="GET", handler=who)


@http_action
def cors(ctx, request):
    return Response(None, 204, {"access-control-allow-origin": request.headers.get("origin") or "*"})


router.route(path="/who", method="OPTIONS", handler=cors)


def numbers(ctx, count):
    for number in range(count):
        ctx.run_mutation("inbox:add", {"text": str(number)})
        yield f"{number}\n".encode()


@http_action
def stream(ctx, request):
    count = int(request.query.get("count"))
    return Response(numbers(ctx, count), headers={"content-type": "text/plain"})


router.route(path="/stream", method="GET", handler=stream)


def broken(ctx):
    yield b"begun"
    raise ValueError("half way")


@http_action
def fail(ctx, request):
    kind = request.query.get("kind")
    if kind == "stream":
        return Response(broken(ctx))
    if kind == "data":
        raise AppError({"code": "NO"})
    if kind == "none":
        return None
    if kind == "header":
        return Response("x", headers={"bad name": "x"})
    raise ValueError("no such channel")


router.route(path="/fail", method="GET", handler=fail)


@http_action
def mirror(ctx, request):
    return Response(request.body())


router.route(path="/mirror", method="POST", handler=mirror)


@http_action
def bytes_of(ctx, request):
    return Response(b"x" * int(request.query.get("size")))


router.route(path="/bytes", method="GET", handler=bytes_of)
