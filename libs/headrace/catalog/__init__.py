"""What is live and who may: records that change in transactions, each with its line of the audit.

| file | what |
|---|---|
| `access.py`, `errors.py` | what can be done with records, whoever has them; why not |
| `records.py` | `CatalogRecords`: records in this process' database, and what only its owner may do |
| `changes.py` | a change within its transaction, which begins by locking the head |
| `leases.py` | leases on the database's clock |
| `verification.py` | whether the audit is whole and the records are what it says |
| `tables.py`, `migrations/` | the schema |

How a database fails: unreachable, full, read-only, damaged, emptied or not initialised, newer, or another process has it. Each is
a kind of `RecordsUnavailableError`. Nothing was changed then; what is live is served on. A change whose answer was lost is sent
again with its id. A restored database is at an older position, which its followers notice.
"""
