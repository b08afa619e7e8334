"""What the pages say, as plain values: the templates and the JSON show the same. No HTTP in here."""
