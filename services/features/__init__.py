"""The features service: values of entities from Feast's online store, with their age and where they came from."""
