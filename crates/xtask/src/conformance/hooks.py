"""What Schemathesis has to know about the edge. Loaded by it, through SCHEMATHESIS_HOOKS."""

import msgpack
import schemathesis

FILES = "/tickets/{id}/files"


@schemathesis.deserializer("application/msgpack")
def unpack(ctx, response):
    """Replies in MessagePack are held against their schema as those in JSON are."""
    return msgpack.unpackb(response.content)


@schemathesis.hook
def filter_case(ctx, case):
    """A form holds texts: a wrong value of another type, such as `false` for a title, becomes a right one in it."""
    if case.operation.path != FILES or not isinstance(case.body, dict):
        return True
    return isinstance(case.body.get("title", ""), str)
