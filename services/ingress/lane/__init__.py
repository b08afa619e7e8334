"""The lane: how small unary requests get from Envoy to the application in batches, and the replies back."""
