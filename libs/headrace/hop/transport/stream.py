"""Constants of the stream multiplexer that both ends must agree on. (Why it exists: headrace/api/hop/v1/hop.proto.)"""

from __future__ import annotations

from headrace.api.hop.v1 import hop_pb2

SERVICE = hop_pb2.DESCRIPTOR.services_by_name["HopService"]
PATH = f"/{SERVICE.full_name}/Exchange"

# A message is written when it holds this much, even if more waits, so that no answer waits behind megabytes.
FRAME_BYTES = 512 * 1024
# A larger request is sent as its own RPC, so that other calls do not wait while it is transferred.
LARGEST_REQUEST_BYTES = 256 * 1024
# A server or client that accepts only smaller messages does not multiplex.
LEAST_MESSAGE_BYTES = 2 * FRAME_BYTES

# In the stream's first metadata. The client's: the largest message that it takes, in bytes.
LIMIT_KEY = "headrace-max-message-bytes"
# The server's: it has accepted the stream and reads. If the client writes earlier and the server refuses the stream,
# gRPC's core sometimes reports "INTERNAL: Internal error from Core" instead of the refusal.
ACCEPTED_KEY = "headrace-exchange"
# Bytes reserved in a message for the fields beside a reply.
ENVELOPE_BYTES = 16 * 1024
