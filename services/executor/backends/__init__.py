"""What runs models: one module per engine, behind one protocol."""
