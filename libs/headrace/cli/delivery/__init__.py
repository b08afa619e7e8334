"""The processes of a home as a target of deployments, and what a version is made of here."""
