"""What a model says about itself, and models from MLflow."""
