"""What Schemathesis has to know about the edge. Loaded by it, through SCHEMATHESIS_HOOKS."""

import msgpack
import schemathesis


@schemathesis.deserializer("application/msgpack")
def unpack(ctx, response):
    """Replies in MessagePack are held against their schema as those in JSON are."""
    return msgpack.unpackb(response.content)
