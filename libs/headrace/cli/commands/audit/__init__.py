"""`headrace audit`: verify, prove and export the audit log, erase a person from it, and be a witness of another's."""
