"""Takes what routers report, and hands each part to the room that keeps it."""
