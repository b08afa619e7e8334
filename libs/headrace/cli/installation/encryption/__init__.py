"""The keys of an installation: where they are, what they seal, and how they are begun."""
