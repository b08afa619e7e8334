"""The response cache: answers of pipelines that ask for it (`cache` in the document), in this process and, if set, in Redis."""
