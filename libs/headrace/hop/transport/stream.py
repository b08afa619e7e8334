"""What both ends of an exchange must agree on. (Why there is one: headrace/api/hop/v1/hop.proto.)"""

from __future__ import annotations

from headrace.api.hop.v1 import hop_pb2

SERVICE = hop_pb2.DESCRIPTOR.services_by_name["HopService"]
PATH = f"/{SERVICE.full_name}/Exchange"

# A message is written once it holds this much, whatever else waits, so that no answer waits behind megabytes.
FRAME_BYTES = 512 * 1024
# A larger request goes as an RPC of its own: there, only it waits while it is carried.
LARGEST_REQUEST_BYTES = 256 * 1024
# What a server or client must at least take in one message to exchange at all.
LEAST_MESSAGE_BYTES = 2 * FRAME_BYTES

# In the stream's first metadata. The client's: the largest message that it takes, in bytes.
LIMIT_KEY = "headrace-max-message-bytes"
# The server's: it is there and reads. What is written before that to a server that refuses the stream, gRPC's core
# answers at times with "INTERNAL: Internal error from Core" instead of the refusal.
ACCEPTED_KEY = "headrace-exchange"
# Room in a message for what stands beside a reply.
ENVELOPE_BYTES = 16 * 1024
