"""FastAPI, Starlette, Litestar, or any other ASGI application, on Lambda and on a server.

    import db.asgi
    from fastapi import Depends, FastAPI

    app = FastAPI(lifespan=db.asgi.lifespan)
    app.add_middleware(db.asgi.Middleware)

    @app.post("/notes")
    async def create(tx: Annotated[AsyncConnection, Depends(db.asgi.transaction, scope="function")]): ...

    handler = db.asgi.lambda_handler(app)

It is ASGI 3, and imports no framework: each takes these objects as it takes its users' own. Not imported with ``db``.

``caller`` reads what a request says of the invocation that brought it: Mangum's scope, the headers of the Lambda Web
Adapter, those of a client. ``middleware`` binds that for the length of the request, and holds the request's answer back
where it would come too early. ``units`` are the dependencies: units of work that a route is given. ``entering`` enters
a plain block from a coroutine. ``lifespans`` has the process's end, and the handler for Lambda. ``problems`` says
errors in HTTP. They must not know a framework, nor decide what a unit of work promises: that is in the rooms below.
"""

from .caller import request_context
from .lifespans import lambda_handler, lifespan
from .middleware import Middleware
from .problems import Answer, answer_to, problem
from .units import dependency, plain_reading, plain_transaction, reading, transaction

__all__ = [
    "Answer",
    "Middleware",
    "answer_to",
    "dependency",
    "lambda_handler",
    "lifespan",
    "plain_reading",
    "plain_transaction",
    "problem",
    "reading",
    "request_context",
    "transaction",
]
