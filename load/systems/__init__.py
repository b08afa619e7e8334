"""What is measured: headrace or a peer as running processes, their stores, their CPU and memory."""
