"""RecordsService: reads and changes of records, with what each kind of them must be."""
