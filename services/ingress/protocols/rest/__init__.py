"""The REST form of the Open Inference Protocol."""
